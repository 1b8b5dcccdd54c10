"""How many planted faults a certificate finds, and how many right variants it accuses.

    python benchmarks/planted_faults.py [--kind sizes,state] [--variant NAME] [--every 5] [--jobs 2]

A certificate takes seconds, and the corpus holds hundreds of variants: `--every 5` takes a fifth.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from document import table

import bakeoff

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from planted import PLANTED, Planted

BY_NAME = {planted.name: planted for planted in PLANTED}


@dataclass(frozen=True)
class Outcome:
    """What the certificate of one planted variant says."""

    name: str
    verdict: str
    reason: str
    seconds: float

    @property
    def planted(self) -> Planted:
        """The variant, which can't be sent from process to process."""
        return BY_NAME[self.name]

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is one of those that it may be."""
        return self.verdict in self.planted.expected


def certified(name: str) -> Outcome:
    """The certificate of one variant; an exception of the checker itself is a verdict, too."""
    started = time.monotonic()
    try:
        certificate = bakeoff.check(BY_NAME[name].variant)
    except Exception as error:
        return Outcome(name, "no certificate", repr(error), time.monotonic() - started)
    bad = [forward for forward in certificate.forwards if forward.verdict == certificate.verdict]
    reason = bad[0].reason if bad else ""
    return Outcome(name, certificate.verdict, reason, time.monotonic() - started)


def outcomes_of(chosen: Iterable[Planted], jobs: int) -> list[Outcome]:
    """All certificates, with a line for each as it is done."""
    outcomes = []
    # Processes, and new ones: checks that share one would share what it registers for pickling.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        for future in as_completed([pool.submit(certified, one.name) for one in chosen]):
            outcome = future.result()
            outcomes.append(outcome)
            mark = "  " if outcome.as_expected else "! "
            reason = outcome.reason.replace("\n", " ")[:90]
            line = f"{mark}{outcome.name}: {outcome.verdict}, {outcome.seconds:.1f} s; {reason}"
            print(line, flush=True)
    return outcomes


def summary(outcomes: list[Outcome]) -> str:
    """A row for each kind."""
    kinds = list(dict.fromkeys(planted.kind for planted in PLANTED))
    rows = []
    for kind in kinds:
        own = [outcome for outcome in outcomes if outcome.planted.kind == kind]
        if not own:
            continue
        found = sum(outcome.as_expected for outcome in own)
        time_each = statistics.median(outcome.seconds for outcome in own)
        rows.append((kind, len(own), found, f"{found / len(own):.0%}", f"{time_each:.1f}"))
    headers = ("kind", "variants", "as expected", "share", "median seconds")
    return table(headers, rows)


def lists(outcomes: list[Outcome]) -> str:
    """What was missed, and what was accused, by name."""
    faulty = [outcome for outcome in outcomes if outcome.planted.faulty]
    odd = [outcome for outcome in outcomes if not outcome.planted.faulty]
    missed = [outcome for outcome in faulty if not outcome.as_expected]
    accused = [outcome for outcome in odd if not outcome.as_expected]
    lines = [f"{len(faulty) - len(missed)} of {len(faulty)} faults found. Missed:"]
    lines += [f"- {o.planted.kind}: {o.name} ({o.verdict}): {o.planted.why}" for o in missed]
    lines += [f"{len(accused)} of {len(odd)} right variants accused:"]
    lines += [f"- {o.name} ({o.verdict}): {o.reason}" for o in accused]
    return "\n".join(lines)


def main() -> None:
    """Certificates of the chosen part of the corpus, as a table and two lists."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", help="kinds, with commas between them")
    parser.add_argument("--variant", help="names, with commas between them")
    parser.add_argument("--every", type=int, default=1, help="one in so many")
    parser.add_argument("--jobs", type=int, default=1, help="certificates side by side")
    given = parser.parse_args()
    kinds = given.kind.split(",") if given.kind else None
    names = given.variant.split(",") if given.variant else None
    chosen = [
        planted
        for planted in PLANTED
        if (kinds is None or planted.kind in kinds) and (names is None or planted.name in names)
    ][:: given.every]
    if not chosen:
        known = sorted({planted.kind for planted in PLANTED})
        parser.error(f"nothing is planted there; kinds: {', '.join(known)}")
    outcomes = outcomes_of(chosen, given.jobs)
    print(summary(outcomes), lists(outcomes), sep="\n\n")


if __name__ == "__main__":
    main()
