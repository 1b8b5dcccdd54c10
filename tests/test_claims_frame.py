"""How claims are judged: verdicts by intervals, and what is said of bad claims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bakeoff
from bakeoff import BakeoffError, Catalog, UnknownNameError, UsageError
from bakeoff.registry.catalog import Contribution
from bakeoff.suites.claims.claim import CLAIM, Claim, Criterion, claims_of
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.judging import LEVEL, Evidence, Verdict, evidence, judged, verdict_of
from bakeoff.suites.identity import identified
from bakeoff.suites.records import Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.spec import suites_of

ABOVE = Criterion("above", "a mean", above=1.0)
WITHIN = Criterion("within", "a mean", above=-0.5, below=0.5)
#: Of 2000 simulated experiments; the standard error of a rate of 2.5% is then 0.35%.
RUNS, SEEDS = 2000, 5


def claim(**fields: Any) -> Claim:
    """A claim that holds, changed by what is given."""
    given: dict[str, Any] = {
        "roles": {"rectifier": "relu"},
        "criteria": (ABOVE,),
        "measure": lambda experiment: {"above": 2.0 + experiment.seed / 100},
        **fields,
    }
    return Claim(given.pop("name", "planted"), "It is so.", "Nobody", **given)


def simulated(criterion: Criterion, mean: float, level: float = LEVEL) -> dict[Verdict, float]:
    """The rate of each verdict where single seeds are normal about ``mean``."""
    samples = np.random.default_rng(0).normal(mean, 1.0, (RUNS, SEEDS))
    found = [evidence(criterion, row, level).verdict for row in samples.tolist()]
    return {verdict: found.count(verdict) / RUNS for verdict in Verdict}


@pytest.mark.parametrize("criterion", [ABOVE, replace(ABOVE, above=None, below=1.0)])
def test_at_the_bound_little_is_said(criterion: Criterion) -> None:
    rates = simulated(criterion, 1.0)
    assert rates[Verdict.HOLDS] + rates[Verdict.FALSE] == pytest.approx(1 - LEVEL, abs=0.015)


def test_equivalence_is_not_claimed_at_the_margin() -> None:
    assert simulated(WITHIN, 0.5)[Verdict.HOLDS] <= (1 - LEVEL) / 2 + 0.01


@pytest.mark.parametrize(
    ("criterion", "mean", "verdict"),
    [
        (ABOVE, 6.0, Verdict.HOLDS),
        (ABOVE, -4.0, Verdict.FALSE),
        (WITHIN, 6.0, Verdict.FALSE),
        (WITHIN, 0.0, Verdict.UNDECIDED),  # five seeds of deviation 1 can't show ±0.5
    ],
)
def test_what_is_clear_is_said(criterion: Criterion, mean: float, verdict: Verdict) -> None:
    assert simulated(criterion, mean)[verdict] > 0.95


def test_several_criteria_are_judged_together() -> None:
    """With all of them at the bound the claim is decided, wrongly, in 5% at the most."""
    several, generator = 5, np.random.default_rng(1)
    level = 1 - (1 - LEVEL) / several
    decided = 0
    for _ in range(RUNS):
        rows = generator.normal(1.0, 1.0, (several, SEEDS)).tolist()
        found = [evidence(ABOVE, row, level).verdict for row in rows]
        decided += any(verdict != Verdict.UNDECIDED for verdict in found)
    assert decided / RUNS <= 1 - LEVEL + 0.015


def test_the_interval_of_a_ratio_is_that_of_its_logarithm() -> None:
    found = evidence(Criterion("ratio", "", above=1, log=True), [1.0, 10.0, 100.0], LEVEL)
    assert found.value == pytest.approx(10.0)
    assert found.low * found.high == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((0.1, 0.4), Verdict.HOLDS),
        ((0.1, 0.6), Verdict.UNDECIDED),
        ((-9.0, 9.0), Verdict.UNDECIDED),
        ((0.5, 0.6), Verdict.FALSE),
        ((-2.0, -0.5), Verdict.FALSE),
    ],
)
def test_a_verdict_needs_the_whole_interval(ends: tuple[float, float], verdict: Verdict) -> None:
    assert Evidence(WITHIN, sum(ends) / 2, *ends, n=5).verdict == verdict


def test_a_claim_holds_where_every_criterion_does() -> None:
    holds, false, undecided = (
        Evidence(ABOVE, 0.0, *ends, n=5) for ends in ((2.0, 3.0), (0.0, 1.0), (0.0, 2.0))
    )
    assert verdict_of([holds, holds]) == Verdict.HOLDS
    assert verdict_of([holds, undecided]) == Verdict.UNDECIDED
    assert verdict_of([holds, undecided, false]) == Verdict.FALSE


def test_seeds_are_samples_and_what_is_counted_is_exact(catalog: Catalog) -> None:
    counted = Criterion("counted", "a count", below=4)
    found = judged(
        claim(criteria=(ABOVE, counted), count=lambda experiment: {"counted": 3}),
        catalog,
        seeds=(1, 2, 3),
    )
    assert [one.n for one in found] == [3, None]
    assert found[0].value == pytest.approx(2.02)
    assert found[0].low < 2.02 < found[0].high
    assert (found[1].value, found[1].low, found[1].high) == (3.0, 3.0, 3.0)
    # Its interval is as wide as that of a claim without a count.
    assert found[0] == judged(claim(), catalog, seeds=(1, 2, 3))[0]


def test_an_experiment_is_paired_and_can_be_repeated(catalog: Catalog) -> None:
    one = Experiment(catalog, {"a": "prelu", "b": "relu"}, seed=3)
    again = Experiment(catalog, {"a": "prelu"}, seed=3)
    assert one.normal(4).equal(again.normal(4))
    assert not one.normal(4).equal(one.normal(4, stream=1))
    assert not one.normal(4).equal(Experiment(catalog, {}, seed=4).normal(4))
    assert one.module("a", 4)(one.normal(4)).equal(again.module("a", 4)(again.normal(4)))
    assert one.at_scale(1, 2) == 1
    assert replace(one, scale="full").at_scale(1, 2) == 2
    assert replace(one, scale="full").at_scale(1, 2, 3) == 3


def test_what_is_kept_is_made_once(catalog: Catalog) -> None:
    made = []

    def measure(experiment: Experiment) -> Mapping[str, float]:
        return {"above": experiment.once("dear", lambda: made.append(1) or 2.0)}

    judged(claim(measure=measure), catalog)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ({"abov": 1.0}, r"it measured 'abov', expected its criteria: above"),
        ({}, r"above: got 0 numbers of 5 seeds"),
        ({"above": math.nan}, r"above: got nan \(float\), expected a finite number"),
        ({"above": "much"}, r"above: got 'much' \(str\), expected a finite number"),
    ],
)
def test_numbers_that_are_none_are_refused(
    returned: dict[str, Any], said: str, catalog: Catalog
) -> None:
    with pytest.raises(UsageError, match=said):
        judged(claim(measure=lambda experiment: returned), catalog)


def test_a_ratio_must_be_positive(catalog: Catalog) -> None:
    criteria = (replace(ABOVE, log=True),)
    with pytest.raises(UsageError, match="above: got 0, expected a positive number"):
        judged(claim(criteria=criteria, measure=lambda experiment: {"above": 0.0}), catalog)


def test_one_seed_shows_nothing(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="got 1 seed, expected at least 2"):
        judged(claim(), catalog, seeds=(0,))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "No Name"}, r"name: got 'No Name' \(str\), expected lower_snake_case"),
        ({"roles": ("relu",)}, r"roles: got \('relu',\) \(tuple\), expected names of variants"),
        ({"criteria": ()}, r"criteria: got \(\) \(tuple\), expected at least one"),
        ({"criteria": ("x",)}, r"criteria: got 'x' \(str\), expected a Criterion"),
        ({"criteria": (ABOVE, ABOVE)}, r"expected names not used twice"),
        ({"measure": None}, r"expected a function of an experiment in one of them or in both"),
    ],
)
def test_a_bad_claim_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        claim(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "got no bound, expected above, below or both"),
        ({"above": 2, "below": 1}, "got above=2 and below=1, expected above < below"),
        ({"above": math.inf}, r"got the bound inf \(float\), expected a finite number"),
        ({"above": 0, "log": True}, "got the bound 0, expected a positive one"),
    ],
)
def test_a_bad_criterion_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Criterion("bad", "a number", **fields)


def bringing(catalog: Catalog, *claims: object) -> Catalog:
    """The catalog with claims of a plugin beside the textbook's."""
    brought = catalog.contributions["bakeoff_claims"]
    brought += tuple(Contribution("stranger", one) for one in claims)
    return replace(catalog, contributions={**catalog.contributions, "bakeoff_claims": brought})


def test_what_is_no_claim_is_named_with_its_plugin(catalog: Catalog) -> None:
    with pytest.raises(BakeoffError, match=r"stranger: bakeoff_claims: got 3 \(int\), expected a"):
        claims_of(bringing(catalog, 3))
    with pytest.raises(BakeoffError, match=r"'planted' is already brought by stranger; choose"):
        claims_of(bringing(catalog, claim(), claim()))


def test_claims_are_chosen_by_name(catalog: Catalog) -> None:
    assert list(claims_of(catalog, ["linear_stack"])) == ["linear_stack"]
    assert list(claims_of(bringing(catalog, claim())))[-1] == "planted"
    with pytest.raises(UnknownNameError, match="no claim is called 'linear_stak'; did you mean"):
        claims_of(catalog, ["linear_stak"])
    with pytest.raises(UnknownNameError, match="the claim planted has no role 'rectifer'; did you"):
        claim().with_roles(rectifer="tanh")


def test_a_scale_is_one_of_three() -> None:
    assert selection_for("standard", "claims", {}).scale == "standard"
    with pytest.raises(UsageError, match="scale: got 'large', expected one of quick, standard, f"):
        selection_for("quick", "claims", {"scale": "large"})


def records_of(catalog: Catalog, name: str = "planted") -> Iterator[Record]:
    suite = suites_of(catalog, ["claims"])["claims"]
    for job in suite.plan(catalog, selection_for("quick", "claims", {"claims": (name,)})):
        yield from suite.measure(replace(job, catalog=catalog))


def test_a_claim_becomes_records(catalog: Catalog) -> None:
    found = {record.metric: record for record in records_of(bringing(catalog, claim()))}
    assert found["verdict"].value == 1.0
    assert found["verdict"].reason == "holds"
    assert found["above"].reason == "holds: > 1: a mean"
    assert found["above"].n == 5
    assert (found["statement"].reason, found["source"].reason) == ("It is so.", "Nobody")
    assert found["criteria"].reason.split(", ") == [c.name for c in claim().criteria]
    assert {record.cell.label for record in found.values()} == {f"{CLAIM}:planted"}


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"measure": lambda e: {"above": 1 / 0}}, Status.FAILED, "ZeroDivisionError: division"),
        ({"roles": {"it": "relo"}}, Status.UNSUPPORTED, "about relo (as its it), which is not"),
        ({"needs": ("no-such-package",)}, Status.UNSUPPORTED, "pip install no-such-package"),
    ],
)
def test_a_claim_that_can_not_be_judged_says_why(
    fields: dict[str, Any], status: Status, said: str, catalog: Catalog
) -> None:
    first = next(records_of(bringing(catalog, claim(**fields))))
    assert first.status == status
    assert said in first.reason


def test_a_plugin_brings_its_own_and_a_bad_one_costs_only_itself(tmp_path: Path) -> None:
    text = (
        "from bakeoff import hookimpl\n"
        "from bakeoff.suites.claims.claim import Claim, Criterion\n"
        "@hookimpl\n"
        "def bakeoff_claims():\n"
        "    yield Claim({name!r}, 'So.', 'I', roles={{}}, count=lambda e: {{'x': 1}},\n"
        "                criteria=(Criterion('x', 'one', above=0),))\n"
    )
    for stem, name in (("good", "mine"), ("bad", "Not Mine")):
        (tmp_path / f"{stem}.py").write_text(text.format(name=name), encoding="utf-8")
    files = [tmp_path / "good.py", tmp_path / "bad.py"]
    loaded = bakeoff.load(files, entry_points=False, pyproject=False)
    assert "mine" in claims_of(loaded)
    (problem,) = loaded.problems
    assert problem.origin.endswith("bad.py")
    assert "expected lower_snake_case" in problem.reason


def test_the_key_covers_the_claim_and_its_variants(catalog: Catalog) -> None:
    def key(one: Claim) -> str:
        brought = bringing(catalog, one)
        suite = suites_of(brought, ["claims"])["claims"]
        selection = selection_for("quick", "claims", {"claims": ("planted",)})
        (cell,) = (cell for job in suite.plan(brought, selection) for cell in job.cells)
        return identified(brought, [cell])[cell].key

    before = key(claim())
    assert key(claim()) == before
    assert key(claim(roles={"rectifier": "gelu"})) != before
    assert key(claim(criteria=(replace(ABOVE, above=1.5),))) != before
    assert key(claim(measure=math.floor)) != before
    bound = [partial(lambda experiment, value: {"above": value}, value=2.0) for _ in range(2)]
    assert key(claim(measure=bound[0])) == key(claim(measure=bound[1]))
