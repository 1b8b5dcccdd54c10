"""A race: rivals of one case, timed in randomised interleaved rounds, so that drift hits all."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from bakeoff.suites.statistics import rounds_for

__all__ = ["Lap", "Race"]

#: Makes the function that is timed, to be called so many times in a row, before each sample and
#: out of the clock's sight.
Lap = Callable[[int], Callable[[], object]]

PILOT_ROUNDS = 7
#: Run even where the budget does not allow for it; and run where the pilot asks for fewer.
LEAST_ROUNDS, ENOUGH_ROUNDS = 7, 20
MOST_ROUNDS = 400
#: A sample lasts at least this long (in calls in a row), so that the clock's own cost is small.
LEAST_SAMPLE = 100e-6
WARM_UP_SECONDS = 0.2


@dataclass
class Race:
    """Times rivals against a baseline.

    Args:
        laps: What to time, by name.
        baseline: The name of the baseline; it runs in every round.
        twin: The name of the baseline's twin, if there is one: it runs in every round too.
        budget: Seconds for all rounds together.
        precision: The half-width wanted for the interval of a ratio, as a share.
        device: Where the work is done: a GPU is waited for.
        seed: Of the order within rounds.
        announce: Called with the name of what runs next, before each sample.
    """

    laps: Mapping[str, Lap]
    baseline: str
    twin: str
    budget: float
    precision: float = 0.03
    device: str = "cpu"
    seed: int = 0
    announce: Callable[[str], None] = lambda name: None
    times: dict[str, dict[int, float]] = field(default_factory=dict)

    def run(self) -> None:
        """Warm up, fix the number of rounds from a pilot, and run them."""
        seconds = {name: self._warm_up(name) for name in self.laps}
        repeats = {name: max(1, math.ceil(LEAST_SAMPLE / s)) for name, s in seconds.items()}
        share = self.budget / len(self.laps)
        affordable = {name: int(share / (s * repeats[name])) for name, s in seconds.items()}
        # A rival that can afford no more than the least needs no pilot to say so.
        piloted = [name for name, rounds in affordable.items() if rounds > LEAST_ROUNDS]
        pilot = dict.fromkeys((self.baseline, *piloted), PILOT_ROUNDS)
        self._rounds(pilot, repeats)
        self._rounds(self._wanted(affordable, piloted), repeats)

    def paired(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times of a rival, and of the baseline in the same rounds."""
        rounds = sorted(self.times[name])
        own = np.array([self.times[name][r] for r in rounds])
        return own, np.array([self.times[self.baseline][r] for r in rounds])

    def _wanted(self, affordable: Mapping[str, int], piloted: list[str]) -> dict[str, int]:
        """Rounds for each rival: what the precision needs, as far as its share allows."""
        wanted = dict.fromkeys(self.laps, LEAST_ROUNDS)
        for name in piloted:
            own, baseline = self.paired(name)
            needed = rounds_for(self.precision, np.log(own / baseline))
            wanted[name] = min(max(needed, ENOUGH_ROUNDS), affordable[name], MOST_ROUNDS)
        # The baseline runs in every round, so that each rival has its pair.
        most = max(wanted.values())
        return wanted | {name: most for name in (self.baseline, self.twin) if name in wanted}

    def _rounds(self, wanted: Mapping[str, int], repeats: Mapping[str, int]) -> None:
        generator = random.Random(self.seed)
        total = max(wanted.values())
        self.times = {name: {} for name in self.laps}
        enabled = gc.isenabled()
        gc.disable()
        try:
            for r in range(total):
                # Rivals with fewer rounds take part in some, spread over the whole race.
                present = [n for n, w in wanted.items() if (r + 1) * w // total > r * w // total]
                generator.shuffle(present)
                for name in present:
                    self.times[name][r] = self._sample(name, repeats[name])
                if r % 20 == 0:
                    gc.collect()
        finally:
            if enabled:
                gc.enable()

    def _warm_up(self, name: str) -> float:
        """Run until two times in a row agree within 10%; return the seconds of one call."""
        started, previous = time.perf_counter(), math.inf
        while True:
            seconds = self._sample(name, 1)
            settled = abs(seconds - previous) <= 0.1 * seconds
            if settled or time.perf_counter() - started > WARM_UP_SECONDS:
                return seconds
            previous = seconds

    def _sample(self, name: str, repeats: int) -> float:
        """Seconds of one call, over ``repeats`` calls in a row."""
        self.announce(name)
        call = self.laps[name](repeats)
        if self.device.startswith("cuda"):
            return _cuda_seconds(call, repeats)
        started = time.perf_counter_ns()
        for _ in range(repeats):
            call()
        return max(1, time.perf_counter_ns() - started) / repeats * 1e-9


def _cuda_seconds(call: Callable[[], object], repeats: int) -> float:
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / repeats * 1e-3
