"""What roles cost: operations counted on fake tensors, and times in short races."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from bakeoff.registry.shapes import Case
from bakeoff.suites.calls import Call
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.clocks import clock_for
from bakeoff.suites.counting import counted
from bakeoff.suites.lengths import at_length
from bakeoff.suites.race import Race
from bakeoff.suites.records import Cell
from bakeoff.suites.statistics import median_ratio
from bakeoff.suites.tensors import why_not
from bakeoff.suites.verdicts import Unsupported

__all__ = ["calls_of", "exponent_of", "least_flops", "least_moved", "ratio_of_times"]


def _forwards_of(experiment: Experiment, role: str, case: Case) -> tuple[str, ...]:
    """The forwards of a role that can run the case.

    Raises:
        Unsupported: Where none can.
    """
    variant = experiment.variant(role)
    refusals = {name: why_not(variant, name, case) for name in variant.forwards}
    found = tuple(name for name, reason in refusals.items() if reason is None)
    if not found:
        raise Unsupported(f"{variant.name} can't run this: {refusals['reference']}")
    return found


def least_flops(experiment: Experiment, role: str, case: Case) -> float:
    """Floating-point operations in matrix products, of the forward that needs the fewest."""
    variant = experiment.variant(role)
    return min(counted(variant, name, case).flops for name in _forwards_of(experiment, role, case))


def least_moved(experiment: Experiment, role: str, case: Case) -> float:
    """Bytes that the operations read and wrote, of the forward that moves the fewest."""
    variant = experiment.variant(role)
    return min(
        counted(variant, name, case).moved_bytes for name in _forwards_of(experiment, role, case)
    )


def exponent_of(cost: Callable[[Case], float], case: Case, lengths: tuple[int, int]) -> float:
    """p of a cost that grows like N^p, between two lengths."""
    short, long = (cost(at_length(case, n)) for n in lengths)
    return math.log(long / short) / math.log(lengths[1] / lengths[0])


def calls_of(experiment: Experiment, role: str, case: Case) -> dict[str, Call]:
    """The forwards of a role that can run the case, ready to run, by role and name.

    The reference is there to be read, and takes part only where nothing else can.
    """
    variant = experiment.variant(role)
    found: dict[str, Call] = {}
    names = _forwards_of(experiment, role, case)
    for name in [name for name in names if name != "reference"] or names:
        cell = Cell("claims", 0, variant.name, name, case)
        found[f"{role}:{name}"] = Call.of(variant, cell)
    return found


def ratio_of_times(
    calls: Mapping[str, Call], one: str, other: str, experiment: Experiment
) -> float:
    """The time of the fastest forward of role ``one`` ÷ that of ``other``, as the median of a race.

    Args:
        calls: What takes part, as :func:`calls_of` returns it.
        one: A role.
        other: Another.
        experiment: The seed, of the order within rounds; its scale gives the seconds.
    """
    raced = {name: call for name, call in calls.items() if name.partition(":")[0] in (one, other)}
    race = Race(
        {name: call.timed for name, call in raced.items()},
        next(name for name in raced if name.startswith(f"{other}:")),
        budget=experiment.at_scale(0.3, 2.0, 5.0),
        clock=clock_for(experiment.device, cold=False),
        seed=experiment.seed,
    )
    race.run()
    to_baseline = {name: median_ratio(*race.paired(name)).value for name in raced}
    return _least(to_baseline, one) / _least(to_baseline, other)


def _least(ratios: Mapping[str, float], role: str) -> float:
    return min(value for name, value in ratios.items() if name.startswith(f"{role}:"))
