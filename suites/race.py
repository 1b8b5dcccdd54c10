"""A race: rivals of one case, timed in randomised interleaved rounds, so that drift hits all."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bakeoff.suites.clocks import Clock
from bakeoff.suites.statistics import rounds_for

__all__ = ["Lap", "Race"]

#: Makes the function that is timed, to be called so many times in a row, before each sample and
#: out of the clock's sight; what the last of these calls returns may be looked at.
Lap = Callable[[int], Callable[[], object]]

PILOT_ROUNDS = 7
#: Run even where the budget does not allow for it; and run where the pilot asks for fewer.
LEAST_ROUNDS, ENOUGH_ROUNDS = 7, 20
#: For a rival that would take half of the whole budget for the least.
FEW_ROUNDS, SLOW = 3, 0.5
MOST_ROUNDS = 400
WARM_UP_SECONDS = 0.2
#: Calls that take less are run once before each sample, out of the clock's sight: what ran before
#: leaves its own data in the caches and its own holes in the heap, which costs a short call up to
#: some percent, and the more the longer its last turn is ago. Longer calls fill both themselves.
PRIMED_SECONDS = 5e-3


@dataclass
class Race:
    """Times rivals against a baseline.

    Args:
        laps: What to time, by name.
        baseline: The name of the baseline.
        steady: Names that run in every round, as the baseline does: its twin, a reference kernel.
        budget: Seconds for all rounds together.
        precision: The half-width wanted for the interval of a ratio, as a share.
        clock: Times a sample.
        seed: Of the order within rounds.
        announce: Called with the name of what runs next, before each sample.
        renew: Called with that name after priming, to give its inputs new values.
        look: Called with that name and what its last timed call returned, as soon as the clock
            has stopped.
    """

    laps: Mapping[str, Lap]
    baseline: str
    steady: tuple[str, ...] = ()
    budget: float = 1.0
    precision: float = 0.03
    clock: Clock = field(default_factory=Clock)
    seed: int = 0
    announce: Callable[[str], None] = lambda name: None
    renew: Callable[[str], None] = lambda name: None
    look: Callable[[str, object], None] = lambda name, output: None
    times: dict[str, dict[int, float]] = field(default_factory=dict)
    launching: dict[str, list[float]] = field(default_factory=dict)
    primed: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Warm up, fix the number of rounds from a pilot, and run them."""
        warm = {name: self._warm_up(name) for name in self.laps}
        if not self.clock.is_cold:
            self.primed = {name for name, (once, _) in warm.items() if once < PRIMED_SECONDS}
        repeats = {
            name: max(1, math.ceil(self.clock.least_sample / seconds))
            for name, (seconds, _) in warm.items()
        }
        costs = {n: warm[n][1] * (repeats[n] + (n in self.primed)) for n in self.laps}
        share = self.budget / len(self.laps)
        affordable = {name: int(share / cost) for name, cost in costs.items()}
        # A rival that can afford no more than the least needs no pilot to say so.
        piloted = [name for name, rounds in affordable.items() if rounds > LEAST_ROUNDS]
        pilot = dict.fromkeys((self.baseline, *piloted), PILOT_ROUNDS)
        self._rounds(pilot, repeats)
        wanted = {name: self._least(cost) for name, cost in costs.items()}
        self._rounds(wanted | self._wanted(affordable, piloted, wanted), repeats)

    def paired(self, name: str, other: str = "") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times of a rival, and of the baseline, or ``other``, in the same rounds."""
        against = self.times[other or self.baseline]
        rounds = sorted(self.times[name].keys() & against.keys())
        own = np.array([self.times[name][r] for r in rounds])
        return own, np.array([against[r] for r in rounds])

    def _least(self, cost: float) -> int:
        return FEW_ROUNDS if cost * LEAST_ROUNDS > SLOW * self.budget else LEAST_ROUNDS

    def _wanted(
        self, affordable: Mapping[str, int], piloted: list[str], least: Mapping[str, int]
    ) -> dict[str, int]:
        """Rounds for each rival: what the precision needs, as far as its share allows."""
        wanted = {}
        for name in piloted:
            own, baseline = self.paired(name)
            needed = rounds_for(self.precision, np.log(own / baseline))
            wanted[name] = min(max(needed, ENOUGH_ROUNDS), affordable[name], MOST_ROUNDS)
        # The baseline runs in every round, so that each rival has its pair.
        most = max((*wanted.values(), *least.values()))
        return wanted | {n: most for n in (self.baseline, *self.steady) if n in self.laps}

    def _rounds(self, wanted: Mapping[str, int], repeats: Mapping[str, int]) -> None:
        generator = random.Random(self.seed)
        total = max(wanted.values())
        self.times = {name: {} for name in self.laps}
        self.launching = {name: [] for name in self.laps}
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

    def _warm_up(self, name: str) -> tuple[float, float]:
        """Run until two times in a row agree within 10%.

        Returns:
            The seconds of one call by the clock, and with all that it takes beside.
        """
        self.launching[name] = []
        started, previous = time.perf_counter(), math.inf
        while True:
            began = time.perf_counter()
            seconds = self._sample(name, 1)
            whole = time.perf_counter() - began
            settled = abs(seconds - previous) <= 0.1 * seconds
            if settled or time.perf_counter() - started > WARM_UP_SECONDS:
                return seconds, max(whole, seconds)
            previous = seconds

    def _sample(self, name: str, repeats: int) -> float:
        """Seconds of one call, over ``repeats`` calls in a row."""
        self.announce(name)
        if name in self.primed:
            self.laps[name](1)()
        self.renew(name)
        sample = self.clock.sample(self.laps[name](repeats), repeats, partial(self.look, name))
        self.launching[name].append(sample.launching)
        return sample.seconds
