"""Every claim: it is not refuted by what it is about, and refuted by a counterfeit.

What is timed may come out otherwise on another machine: there only the counterfeit is asked."""

from __future__ import annotations

import counterfeits
import counterfeits_trained
import pytest

import bakeoff
from bakeoff.suites.claims.claim import claims_of
from bakeoff.suites.claims.judging import Evidence, Verdict, judged, verdict_of

CLAIMS = claims_of(bakeoff.load(entry_points=False, pyproject=False))
COUNTERFEITS = {**counterfeits.COUNTERFEITS, **counterfeits_trained.COUNTERFEITS}
#: Those that train for long, and all that race: a quick test must not hang on a time.
SLOW = {*counterfeits_trained.SLOW, *(name for name, claim in CLAIMS.items() if claim.timed)}
REFUTED = counterfeits_trained.REFUTED
EACH = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CLAIMS]


def refuted(found: list[Evidence], *, timed: bool = True) -> set[str]:
    """The criteria that do not hold, those made of times among them or not."""
    return {
        one.criterion.name
        for one in found
        if one.verdict == Verdict.FALSE and (timed or not one.criterion.timed)
    }


def test_every_claim_has_a_counterfeit() -> None:
    assert set(COUNTERFEITS) == set(CLAIMS)


def test_those_that_race_say_that_they_are_timed() -> None:
    for claim in CLAIMS.values():
        assert claim.measure is not None
        assert claim.timed == ("ratio_of_times" in claim.measure.__globals__), claim.name


def test_numbers_are_not_used_twice() -> None:
    numbers = [claim.number for claim in CLAIMS.values()]
    assert None not in numbers
    assert len(set(numbers)) == len(numbers)


@pytest.mark.filterwarnings("default")  # those of torch.compile itself
@pytest.mark.parametrize("name", EACH)
def test_it_is_not_refuted(name: str, catalog: bakeoff.Catalog) -> None:
    found = judged(CLAIMS[name], catalog)
    assert refuted(found, timed=False) == REFUTED.get(name, set()), found


@pytest.mark.filterwarnings("default")  # likewise
@pytest.mark.parametrize("name", EACH)
def test_a_counterfeit_refutes_it(name: str, catalog: bakeoff.Catalog) -> None:
    given = COUNTERFEITS[name]
    fakes = {role: v for role, v in given.items() if not isinstance(v, str)}
    assert len(fakes) <= 1, "all counterfeits have one name"
    claim = CLAIMS[name].with_roles(
        **{role: v if isinstance(v, str) else v.name for role, v in given.items()}
    )
    found = judged(claim, catalog.with_variants(*fakes.values()))
    assert verdict_of(found) == Verdict.FALSE, found
    assert refuted(found) - REFUTED.get(name, set()), found
