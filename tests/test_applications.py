"""Real models on data of which the floor is known: the data, the suite, and its report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import bakeoff
from bakeoff.reports.blocks import Code, Grid, Text
from bakeoff.reports.rows import rows_of
from bakeoff.reports.sections.applications import SECTION
from bakeoff.suites.applications.application import Application, applications
from bakeoff.suites.applications.chain import Chain
from bakeoff.suites.builtin import applications as suite
from bakeoff.suites.environment import digest_of
from bakeoff.suites.identity import Identified
from bakeoff.suites.records import Cell, Record, Status
from bakeoff.suites.selection import selection_for
from bakeoff.suites.store import Store, open_results

pytestmark = pytest.mark.filterwarnings("ignore")  # those of transformers

Tensor = torch.Tensor
MODELS = applications()
CHAINS = [Chain(4, 1, 0.2), Chain(3, 2, 0.5), Chain(8, 2, 0.1)]


# Data


@pytest.mark.parametrize("chain", CHAINS)
def test_the_entropies_are_those_of_the_whole_distribution(chain: Chain) -> None:
    """Summed over every pair and triple of a chain's tokens, without the Markov property."""
    size = chain.symbols
    matrix = torch.full((size, size), chain.noise / size, dtype=torch.float64)
    for symbol in range(size):
        matrix[symbol, (symbol + chain.shift) % size] += 1 - chain.noise
    pairs = matrix / size
    triples = pairs[:, :, None] * matrix[None]
    before, ends = pairs.sum(1), triples.sum(1)
    assert math.isclose(chain.next_entropy, entropy(pairs) - entropy(before))
    assert math.isclose(chain.between_entropy, entropy(triples) - entropy(ends))


def entropy(joint: Tensor) -> float:
    return -float(torch.xlogy(joint, joint).sum())


@pytest.mark.parametrize("chain", CHAINS)
def test_tokens_follow_the_chain(chain: Chain) -> None:
    tokens = chain.draw(torch.Generator().manual_seed(0), 2000, 12)
    follow = (tokens[:, : -chain.lag] + chain.shift) % chain.symbols == tokens[:, chain.lag :]
    often = 1 - chain.noise + chain.noise / chain.symbols
    assert abs(float(follow.double().mean()) - often) < 0.02
    neighbours = (tokens[:, :-1] == tokens[:, 1:]).double().mean()
    if chain.lag > 1:  # the token before tells nothing
        assert abs(float(neighbours) - 1 / chain.symbols) < 0.02


def batch_of(name: str, size: int = 64) -> Mapping[str, Any]:
    if "sklearn" in MODELS[name].needs:
        pytest.importorskip("sklearn")
    if "detr" in name:
        pytest.importorskip("transformers")
    return MODELS[name].batch(torch.Generator().manual_seed(0), size)


def test_both_that_tell_about_a_masked_token_are_seen() -> None:
    from bakeoff.suites.applications.models.bert import CHAIN, MASK

    masked = batch_of("bert")["input_ids"] == MASK
    rows, places = masked.nonzero(as_tuple=True)
    assert len(rows) > 64
    for step in (-CHAIN.lag, CHAIN.lag):
        assert not masked[rows, places + step].any()


def test_no_two_captions_of_a_batch_are_alike() -> None:
    batch = batch_of("clip", MODELS["clip"].batch_size)
    assert len({tuple(words) for words in batch["input_ids"].tolist()}) == len(batch["input_ids"])


def test_captions_tell_the_colour() -> None:
    batch = batch_of("clip")
    lit = batch["pixel_values"].flatten(2).sum(2)
    assert torch.equal(lit.argmax(1), batch["input_ids"][:, 1])
    assert ((lit > 0).sum(1) == 1).all()


def test_boxes_hold_what_is_drawn() -> None:
    batch = batch_of("detr")
    for picture, label in zip(batch["pixel_values"], batch["labels"], strict=True):
        side, left = picture.shape[-1], picture.sum(0) > 0
        for x, y, width, height in (label["boxes"] * side).tolist():
            across = (torch.arange(side) + 0.5 - x).abs() <= width / 2
            down = (torch.arange(side) + 0.5 - y).abs() <= height / 2
            assert left[down][:, across].any()
            left = left & ~(down[:, None] & across)
        assert not left.any()
        assert (label["boxes"][:, :2] - label["boxes"][:, 2:] / 2 >= -1e-6).all()


def test_words_match_regions_from_left_to_right() -> None:
    batch = batch_of("uniter")
    order = batch["geometry"][..., 0].argsort(1)
    shown = batch["regions"].take_along_dim(order[..., None], 1)
    wanted = batch["classes"].take_along_dim(order, 1)
    named = torch.where(wanted >= 0, wanted, shown.argmax(-1))
    alike = (named == batch["input_ids"][:, 1:]).all(1)
    assert torch.equal(alike.long(), batch["matches"])
    assert torch.equal((wanted >= 0).sum(1), batch["matches"])
    assert not shown[wanted >= 0].any()


def test_the_convolutions_are_of_equal_size() -> None:
    pytest.importorskip("transformers")
    ours, theirs = (
        sum(weight.numel() for weight in MODELS[name].build().parameters())
        for name in ("convnet", "vit")
    )
    assert abs(ours / theirs - 1) < 0.05


# The suite


def cells_of(catalog: bakeoff.Catalog, preset: str = "quick", **given: Any) -> list[Cell]:
    selection = selection_for(preset, "applications", given)
    return [cell for job in suite.plan(catalog, selection) for cell in job.cells]


def test_every_model_has_its_controls(catalog: bakeoff.Catalog) -> None:
    cells = cells_of(catalog)
    assert len(set(cells)) == len(cells)
    for name, app in MODELS.items():
        own = [cell for cell in cells if cell.extra["model"] == name]
        assert [c.case.seed for c in own if c.variant == suite.UNSWAPPED] == [0, 1, 2]
        assert [c.case.seed for c in own if c.variant == suite.BLIND] == [0]
        assert (len({c.variant for c in own}) > 2) == app.attends


def test_a_variant_is_planned_by_one_forward(catalog: bakeoff.Catalog) -> None:
    cells = cells_of(catalog, variants=("scaled_dot_product",), models=("gpt2",), seeds=(0,))
    assert [cell.forward for cell in cells if cell.variant == "scaled_dot_product"] == ["sdpa"]
    named = cells_of(
        catalog, variants=("scaled_dot_product",), models=("gpt2",), seeds=(0,),
        forwards=("reference", "sdpa"),
    )  # fmt: skip
    assert len(named) == len(cells) + 1


def test_an_unknown_model_is_told(catalog: bakeoff.Catalog) -> None:
    with pytest.raises(bakeoff.UnknownNameError, match="did you mean gpt2"):
        cells_of(catalog, models=("gtp2",))
    with pytest.raises(bakeoff.UsageError, match="effort"):
        cells_of(catalog, effort=0.0)


def test_a_missing_package_is_told(
    catalog: bakeoff.Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = replace(MODELS["gpt2"], needs={"a_package_that_is_not": "transformers"})
    monkeypatch.setattr(suite, "application", lambda name: absent)
    cells = cells_of(catalog, models=("gpt2",), seeds=(0,))[:1]
    (record,) = suite.measure(suite.Job(tuple(cells), catalog=catalog))
    assert record.status == Status.UNSUPPORTED
    assert record.reason.endswith("pip install 'bakeoff[transformers]'")


def measured(
    catalog: bakeoff.Catalog, model: str, *variants: str, effort: float = 0.05, **given: Any
) -> dict[str, dict[str, Record]]:
    """By variant and metric, of the first seed."""
    for package in MODELS[model].needs:
        pytest.importorskip(package)
    cells = cells_of(
        catalog, models=(model,), variants=variants, seeds=(0,), effort=effort, **given
    )
    found: dict[str, dict[str, Record]] = {}
    for record in suite.measure(suite.Job(tuple(cells), catalog=catalog)):
        found.setdefault(record.cell.variant, {})[record.metric] = record
    return found


def test_what_is_recorded(catalog: bakeoff.Catalog) -> None:
    found = measured(catalog, "gpt2", "scaled_dot_product", "forgetting", "retention")
    own = found[suite.UNSWAPPED]
    assert {record.status for record in own.values()} == {Status.OK}
    for metric in ("floor", "loss_before", "loss_after", "loss_at_3", "step_time", "time_ratio",
                   "tokens_per_second", "peak_bytes", "grad_norm transformer.h.0"):  # fmt: skip
        value = own[metric].value
        assert value is not None
        assert value > 0
    assert own["steps"].value == 6
    refused = found["forgetting"]["cell"]
    assert refused.status == Status.UNSUPPORTED
    assert "needs inputs" in refused.reason


def test_a_swapped_softmax_learns_what_the_model_learns(catalog: bakeoff.Catalog) -> None:
    """Paired: the same weights, the same batches."""
    found = measured(catalog, "gpt2", "scaled_dot_product")
    for metric in ("loss_before", "loss_at_3", "loss_after", "grad_norm transformer.h.0"):
        own, swapped = (found[v][metric].value for v in (suite.UNSWAPPED, "scaled_dot_product"))
        assert swapped == pytest.approx(own, rel=1e-4)
    assert found[suite.BLIND]["loss_after"].value != found[suite.UNSWAPPED]["loss_after"].value


@pytest.mark.parametrize("name", ["detr", "deformable_detr"])
def test_detectors_are_measured_with_connections(catalog: bakeoff.Catalog, name: str) -> None:
    """Paired, as all: with its own normalisation between its layers a detector learns the same."""
    found = measured(catalog, name, "post_norm", "rezero", "dense", effort=0.03)
    own = found[suite.UNSWAPPED]
    for variant in ("post_norm", "rezero"):
        assert {record.status for record in found[variant].values()} == {Status.OK}
        assert found[variant].keys() == own.keys()
    for metric in ("loss_before", "loss_after", "box_loss_after"):
        expected = pytest.approx(own[metric].value, rel=1e-4)
        assert found["post_norm"][metric].value == expected
        assert found["rezero"][metric].value != expected
    assert "what earlier layers gave" in found["dense"]["cell"].reason


def test_a_loss_that_is_no_number_is_a_failure(
    catalog: bakeoff.Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    wild = replace(MODELS["gpt2"], rate=1e30)
    monkeypatch.setattr(suite, "application", lambda name: wild)
    cell = cells_of(catalog, models=("gpt2",), seeds=(0,), effort=0.05)[0]
    (record,) = suite.measure(suite.Job((cell,), catalog=catalog))
    assert record.status == Status.FAILED
    assert "diverged: the loss is" in record.reason


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if "detr" not in name])
def test_each_model_learns_its_task_and_nothing_blind(catalog: bakeoff.Catalog, name: str) -> None:
    """Detectors need far more steps than the quick preset has."""
    found = measured(catalog, name, "relu", effort=1.0)
    own, blind = found[suite.UNSWAPPED], found[suite.BLIND]
    floor, after, without = (
        float(r.value or 0) for r in (own["floor"], own["loss_after"], blind["loss_after"])
    )
    assert floor - 0.05 < after < (floor + without) / 2


# The report

LOSSES = {"(unswapped)": 0.5, "(blind)": 2.0, "good:sdpa": 0.5, "bad:sdpa": 1.0, "lie:sdpa": 0.1}


def reported(tmp_path: Path, unswapped: float = 0.5, seeds: int = 3) -> list[Any]:
    """The blocks for two models, of which one never learns."""
    path = tmp_path / "results.sqlite"
    app = MODELS["gpt2"]
    with Store(path) as store:
        for model, label, seed in (
            (m, x, s) for m in ("gpt2", "vit") for x in LOSSES for s in range(seeds)
        ):
            cell, records = trained(app, model, label, seed, unswapped)
            identity = Identified(digest_of([cell.axes()]), "", "", {"cpu": "x"})
            store.add(identity, cell, records)
    rows = rows_of(open_results(path).to_pandas())
    return list(SECTION.blocks(rows, {"lie:sdpa": "accuracy: no"}))


def trained(
    app: Application, model: str, label: str, seed: int, unswapped: float
) -> tuple[Cell, list[Record]]:
    variant, _, forward = label.partition(":")
    case = bakeoff.Case(kind="attention", shape=app.shape, pattern="self", seed=seed)
    extra = {"model": model, "effort": 1.0}
    cell = Cell("applications", 1, variant, forward or "original", case, extra)
    loss = {**LOSSES, "(unswapped)": unswapped}[label] if model == "gpt2" else 1.9
    wobble = 0.01 * (seed - 1) * (1 if label == "good:sdpa" else 2)
    values = {"floor": 0.1, "steps": 8, "loss_before": 2.1, "loss_at_4": 1.0}
    values |= {"loss_after": loss + wobble, "time_ratio": 1.5, "peak_bytes": 100.0}
    return cell, [Record(cell, name, float(value)) for name, value in values.items()]


def grid(blocks: list[Any], first: str) -> Grid:
    return next(b for b in blocks if isinstance(b, Grid) and b.headers[0] == first)


def test_the_report_compares_with_the_model_as_it_is(tmp_path: Path) -> None:
    blocks = reported(tmp_path)
    loss = grid(blocks, "loss")
    assert loss.headers == ("loss", "gpt2")
    assert dict(loss.rows) == {"good:sdpa": "+0.00 ±0.02 =", "bad:sdpa": "+0.50 ±0.00"}
    assert grid(blocks, "time").rows[1] == ("good:sdpa", "1.50 ±0%", "1.50 ±0%")
    told = "".join("".join(block.pieces) for block in blocks if isinstance(block, Text))
    assert "has not learned as it is: vit." in told
    assert "Left out, wrong: lie:sdpa." in told
    assert {row[0]: row[5] for row in grid(blocks, "as it is").rows} == {"gpt2": "yes", "vit": "no"}


@pytest.mark.parametrize(("unswapped", "seeds"), [(1.2, 3), (0.5, 1)])
def test_where_softmax_does_not_learn_nothing_is_ranked(
    tmp_path: Path, unswapped: float, seeds: int
) -> None:
    """Or where one seed alone can't tell."""
    blocks = reported(tmp_path, unswapped, seeds)
    assert not [b for b in blocks if isinstance(b, Grid) and b.headers[0] == "loss"]
    assert all(isinstance(row[0], Code) for row in grid(blocks, "time").rows)


def test_when_a_curve_reaches_a_target() -> None:
    from bakeoff.reports.trained import Trained

    values = {"loss_before": {0: 4.0}, "loss_at_4": {0: 2.0}, "loss_after": {0: 1.0}}
    run = Trained("m", "x", values={**values, "steps": {0: 8.0}})
    assert run.curve("loss") == {0: 4.0, 4: 2.0, 8: 1.0}
    assert run.steps_to(3.0, "loss") == 2.0
    assert run.steps_to(1.5, "loss") == 6.0
    assert run.steps_to(0.5, "loss") is None
    assert run.steps_to(9.0, "loss") == 0.0
