"""A variant in a model: with plain softmax nothing changes, and nothing is dropped silently."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import bakeoff
from bakeoff.suites.applications.application import Application, applications
from bakeoff.suites.applications.attention import AttentionSite
from bakeoff.suites.applications.sites import activation_sites, attention_sites
from bakeoff.suites.applications.swap import restore, swap

pytest.importorskip("transformers", reason="transformers is not installed: bakeoff[transformers]")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of transformers

Tensor = torch.Tensor
Call = Mapping[str, Any]

MODELS = [name for name, each in applications().items() if each.attends]
#: Models whose attention gets no padding: a picture, and queries among themselves.
UNPADDED = ("vit", "deformable_detr")
#: Two evaluations of the same sums in another order, in float64.
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def require(name: str) -> Application:
    found = applications()[name]
    if missing := found.missing():
        pytest.skip(missing)
    return found


def enlarged(name: str) -> nn.Module:
    """In float64, with weights so large that attention is far from uniform."""
    torch.manual_seed(0)
    model = require(name).build().double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                spread = weight[0].numel() ** -0.5
                weight.normal_(0.0, 2 * spread, generator=generator)
            else:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator).double())
    return model.eval()


def call_of(name: str, size: int = 3) -> dict[str, Any]:
    """A batch in float64, with padding where the model knows it."""
    batch = dict(require(name).batch(torch.Generator().manual_seed(2), size))
    call = {key: as_double(value) for key, value in batch.items()}
    if name in ("bert", "gpt2", "llama"):  # on the left, where causality does not hide it
        length = batch["input_ids"].shape[1]
        first = torch.tensor([0, 5, 9])[:, None]
        call["attention_mask"] = (torch.arange(length) >= first).long()
        call["labels"] = batch["labels"].masked_fill(call["attention_mask"] == 0, -100)
    if name == "uniter":
        call["attention_mask"] = torch.ones(size, 5).long()
        call["attention_mask"][1:, 2] = 0  # a word that is not there
    if name == "clip":
        call["attention_mask"] = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]])
    if name in ("detr", "deformable_detr"):
        call["pixel_mask"] = torch.ones(size, 32, 32).long()
        call["pixel_mask"][1:, :, 20:] = 0
        del call["labels"]
    return call


def as_double(value: Any) -> Any:
    if isinstance(value, list):
        return [{key: as_double(each) for key, each in one.items()} for one in value]
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.double() if is_float else value


def outputs(model: nn.Module, call: Call) -> Tensor:
    found = model(**call)
    for field in ("logits", "logits_per_image", "matching"):
        if getattr(found, field, None) is not None:
            return getattr(found, field)
    raise AssertionError(found)


def gradients(model: nn.Module, call: Call) -> dict[str, Tensor]:
    model.zero_grad()
    if "pixel_mask" in call:  # the detectors' own losses mix types in float64
        found = model(**call)
        (found.logits.square().mean() + found.pred_boxes.square().mean()).backward()
    else:
        model(**call).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def attentive(name: str = "gpt2") -> tuple[nn.Module, dict[str, Any]]:
    return enlarged(name), call_of(name)


@pytest.mark.parametrize("forward", ["reference", "sdpa"])
@pytest.mark.parametrize("name", MODELS)
def test_softmax_swapped_in_is_the_model_itself(
    catalog: bakeoff.Catalog, name: str, forward: str
) -> None:
    """Padding and causality included, in outputs and in all gradients."""
    model, call = attentive(name)
    real = real_places(name, call)
    before, slopes = outputs(model, call)[real].detach(), gradients(model, call)
    swap(model, catalog["scaled_dot_product"], forward=forward)
    torch.testing.assert_close(outputs(model, call)[real], before, **TIGHT)
    after = gradients(model, call)
    assert after.keys() == slopes.keys()
    for weight, slope in slopes.items():
        torch.testing.assert_close(
            after[weight], slope, **TIGHT, msg=lambda told, w=weight: f"gradient of {w}: {told}"
        )


def real_places(name: str, call: Call) -> Tensor | slice:
    """What stands at padding nobody reads, and implementations differ there."""
    return call["attention_mask"].bool() if name in ("bert", "gpt2", "llama") else slice(None)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in UNPADDED])
def test_dropping_the_mask_is_noticed(catalog: bakeoff.Catalog, name: str) -> None:
    """The same comparison fails for an attention that ignores which keys are padding."""
    model, call = attentive(name)
    before = outputs(model, call)[real_places(name, call)].detach()
    swap(model, forgetful(catalog, mask=None))
    assert_differs(outputs(model, call)[real_places(name, call)], before)


@pytest.mark.parametrize("name", ["gpt2", "llama", "clip"])
def test_dropping_causality_is_noticed(catalog: bakeoff.Catalog, name: str) -> None:
    model, call = attentive(name)
    before = outputs(model, call)[real_places(name, call)].detach()
    swap(model, forgetful(catalog, causal=False))
    assert_differs(outputs(model, call)[real_places(name, call)], before)


def forgetful(catalog: bakeoff.Catalog, **ignored: Any) -> bakeoff.Attention:
    """Softmax attention that does not listen to one argument."""
    softmax = catalog["scaled_dot_product"]
    assert isinstance(softmax, bakeoff.Attention)
    fn = softmax.forward("reference").fn

    def deaf(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
        found: Tensor = fn(q, k, v, **{**given, **ignored})
        return found

    return replace(softmax, name="deaf", forwards={"reference": deaf}, identities=())


def assert_differs(one: Tensor, other: Tensor) -> None:
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_learnable_variants_get_gradients_at_every_site(
    catalog: bakeoff.Catalog, name: str
) -> None:
    model, call = attentive(name)
    was, activations = set(dict(model.named_parameters())), activation_sites(model)
    swap(model, catalog["talking_heads"], example=call)
    swap(model, catalog["prelu"], example=call)
    slopes = gradients(model, call)
    new = [name for name, _ in model.named_parameters() if name not in was]
    assert len({n.rpartition(".bakeoff.")[0] for n in new if ".bakeoff." in n}) == len(
        attention_sites(model)
    )
    assert sum(n.endswith("slope") for n in new) == len(activations) > 0
    assert [n for n in new if not slopes[n].any()] == []


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("variant", ["scaled_dot_product", "alibi", "linear_attention"])
def test_generation_with_a_cache_is_generation_without(
    catalog: bakeoff.Catalog, name: str, variant: str
) -> None:
    model = swap(enlarged(name), catalog[variant])
    prompt = torch.tensor([[1, 2, 3, 1], [0, 0, 4, 5]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    given = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    cached, plain = (model.generate(prompt, use_cache=c, **given) for c in (True, False))
    assert cached.tolist() == plain.tolist()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_prompt_in_pieces_is_a_prompt(catalog: bakeoff.Catalog, name: str) -> None:
    model = swap(enlarged(name), catalog["scaled_dot_product"])
    tokens = torch.randint(8, (2, 12), generator=torch.Generator().manual_seed(0))
    whole = model(tokens).logits
    first = model(tokens[:, :8], use_cache=True)
    second = model(tokens[:, 8:], past_key_values=first.past_key_values)
    torch.testing.assert_close(second.logits, whole[:, 8:], **TIGHT)


def test_a_cache_with_empty_places_is_refused(catalog: bakeoff.Catalog) -> None:
    from transformers import StaticCache

    model = swap(enlarged("llama"), catalog["scaled_dot_product"])
    cache = StaticCache(config=model.config, max_cache_len=16)
    with pytest.raises(bakeoff.UnsupportedError, match="use a cache that grows"):
        model(torch.tensor([[1, 2]]), past_key_values=cache, use_cache=True)


def assert_parameters_travel(model: nn.Module, call: Call, mark: str) -> nn.Module:
    """Copied, loaded and saved; the copy comes back, its parameters that bear the mark moved."""
    twin = copy.deepcopy(model)
    torch.testing.assert_close(outputs(twin, call), outputs(model, call))
    with torch.no_grad():
        for name, weight in twin.named_parameters():
            if mark in name:
                weight.add_(1.0)
    assert_differs(outputs(twin, call), outputs(model, call))
    model.load_state_dict(twin.state_dict())
    torch.testing.assert_close(outputs(twin, call), outputs(model, call))
    file = io.BytesIO()
    torch.save(twin, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    torch.testing.assert_close(outputs(loaded, call), outputs(model, call))
    return twin


def test_the_parameters_are_the_models_own(catalog: bakeoff.Catalog) -> None:
    model, call = attentive()
    swap(model, catalog["talking_heads"])
    twin = assert_parameters_travel(model, call, ".bakeoff.")
    assert {p.dtype for p in twin.bfloat16().parameters()} == {torch.bfloat16}


def test_gradient_checkpointing_changes_nothing(catalog: bakeoff.Catalog) -> None:
    model, call = attentive()
    swap(model, catalog["talking_heads"])
    model.train()
    slopes = gradients(model, call)
    model.gradient_checkpointing_enable()
    again = gradients(model, call)
    for name, slope in slopes.items():
        torch.testing.assert_close(again[name], slope, **TIGHT)


@pytest.mark.slow
def test_a_swapped_model_compiles(catalog: bakeoff.Catalog) -> None:
    model, call = attentive()
    swap(model, catalog["talking_heads"])
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(**call).logits, model(**call).logits)
    slopes = gradients(model, call)
    for name, slope in gradients(compiled, call).items():
        torch.testing.assert_close(slope, slopes[name.removeprefix("_orig_mod.")])


@pytest.mark.parametrize("name", MODELS)
def test_restoring_gives_the_model_back(catalog: bakeoff.Catalog, name: str) -> None:
    model, call = attentive(name)
    before, state, shape = outputs(model, call), model.state_dict().keys(), str(model)
    swap(model, catalog["sigmoid_attention"])
    swap(model, catalog["tanh"])
    assert_differs(outputs(model, call), before)
    restore(model)
    assert torch.equal(outputs(model, call), before)
    assert model.state_dict().keys() == state
    assert str(model) == shape
    restore(model)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_some_layers_only(catalog: bakeoff.Catalog, implementation: str) -> None:
    """The layers that are left attend as before, with padding and causality."""
    model, call = attentive()
    model.set_attn_implementation(implementation)
    real = real_places("gpt2", call)
    before = outputs(model, call)[real]
    swap(model, catalog["scaled_dot_product"], where="*.h.1.*")
    torch.testing.assert_close(outputs(model, call)[real], before, **TIGHT)
    swap(model, forgetful(catalog, causal=False), where=lambda name: ".h.1." in name)
    assert_differs(outputs(model, call)[real], before)
    variants = [
        site.variant and site.variant.variant.name
        for site in model.modules()
        if isinstance(site, AttentionSite)
    ]
    assert variants == [None, "deaf"]


def test_a_swap_replaces_the_one_before(catalog: bakeoff.Catalog) -> None:
    model, call = attentive()
    once = outputs(swap(copy.deepcopy(model), catalog["relu"]), call)
    swap(model, catalog["tanh"])
    twice = outputs(swap(model, catalog["relu"]), call)
    torch.testing.assert_close(twice, once)


def test_a_swap_after_another_implementation_was_set_counts(catalog: bakeoff.Catalog) -> None:
    model, call = attentive()
    once = outputs(swap(copy.deepcopy(model), catalog["sigmoid_attention"]), call)
    swap(model, catalog["alibi"])
    model.set_attn_implementation("eager")
    torch.testing.assert_close(outputs(swap(model, catalog["sigmoid_attention"]), call), once)


def test_activations_are_those_of_the_feed_forward_layers(catalog: bakeoff.Catalog) -> None:
    """A pooler's or a backbone's stay; the tanh form of GELU in GPT-2 is ours."""
    for name in ("detr", "deformable_detr"):
        sides = [path.split(".")[1] for path in activation_sites(enlarged(name))]
        assert sides == ["encoder", "encoder", "decoder", "decoder"]
    assert not [name for name in activation_sites(enlarged("vit")) if "pooler" in name]
    model, call = attentive()
    before = outputs(model, call)
    swap(model, catalog["gelu_tanh"])
    torch.testing.assert_close(outputs(model, call), before, **TIGHT)


def test_the_layers_own_place_is_told(catalog: bakeoff.Catalog) -> None:
    """A forward that names ``layer`` gets its place."""
    softmax = catalog["scaled_dot_product"]
    seen = []

    def curious(q: Tensor, k: Tensor, v: Tensor, *, layer: int, depth: int, **_: Any) -> Tensor:
        seen.append((layer, depth))
        return v

    variant = replace(softmax, name="curious", forwards={"reference": curious}, identities=())
    model, call = attentive()
    outputs(swap(model, variant), call)
    assert seen == [(0, 2), (1, 2)]


def test_random_numbers_and_modes_are_left_alone(catalog: bakeoff.Catalog) -> None:
    """Finding out sizes draws nothing: a softmax model and its rival begin alike."""
    model = enlarged("gpt2").train()
    model.transformer.drop.eval()
    torch.manual_seed(3)
    swap(model, forgetful(catalog))
    drawn = torch.rand(())
    torch.manual_seed(3)
    assert torch.rand(()) == drawn
    swap(model, catalog["prelu"])
    assert model.training
    assert not model.transformer.drop.training


def dropping(model: nn.Module) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5


REFUSED: dict[str, tuple[Callable[[bakeoff.Catalog], object], type[Exception], str]] = {
    "no model": (lambda c: swap(nn.Linear(2, 2), c["relu"]), bakeoff.UsageError, "nn|Linear"),
    "no variant": (lambda c: swap(enlarged("gpt2"), "alibi"), bakeoff.UsageError, "expected one"),
    "no such layer": (
        lambda c: swap(enlarged("gpt2"), c["scaled_dot_product"], where="*.h.7.*"),
        bakeoff.UsageError,
        r"where takes no attention; the model has \['transformer.h.0.attn'",
    ),
    "no such forward": (
        lambda c: swap(enlarged("gpt2"), c["scaled_dot_product"], forward="sdap"),
        bakeoff.UnknownNameError,
        "did you mean sdpa",
    ),
    "inputs": (
        lambda c: swap(enlarged("gpt2"), c["forgetting"]),
        bakeoff.UnsupportedError,
        "needs inputs beside q, k and v",
    ),
    "gated": (lambda c: swap(enlarged("gpt2"), c["swiglu"]), bakeoff.UnsupportedError, "half"),
    "an example that fails": (
        lambda c: swap(enlarged("gpt2"), c["prelu"], example={"input_ids": torch.tensor([[99]])}),
        bakeoff.UsageError,
        "can't run the example",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(catalog: bakeoff.Catalog, case: str) -> None:
    attempt, error, match = REFUSED[case]
    with pytest.raises(error, match=match):
        attempt(catalog)


def test_a_refused_swap_leaves_the_model_as_it_was(catalog: bakeoff.Catalog) -> None:
    model, call = attentive()
    before = outputs(model, call)
    with pytest.raises(bakeoff.UsageError):
        swap(model, catalog["talking_heads"], example={"input_ids": torch.tensor([[99]])})
    assert not hasattr(model.transformer.h[0].attn, "bakeoff")
    assert torch.equal(outputs(model, call), before)


def test_what_a_variant_has_no_place_for_is_refused_when_it_is_called(
    catalog: bakeoff.Catalog,
) -> None:
    model, call = attentive()
    swap(model, catalog["scaled_dot_product"])
    refused = pytest.raises(bakeoff.UnsupportedError, match="position_bias")
    with refused:
        model(call["input_ids"], position_bias=torch.zeros(1))
    with pytest.raises(bakeoff.UnsupportedError, match="adds a bias to the scores"):
        model(call["input_ids"], attention_mask=torch.full((3, 1, 24, 24), -1.0).double())
    dropping(model)
    with pytest.raises(bakeoff.UnsupportedError, match="attention dropout to 0"):
        model(**call)


def test_a_pattern_that_a_variant_does_not_allow_is_refused(catalog: bakeoff.Catalog) -> None:
    model, call = attentive("bert")
    swap(model, catalog["retention"])
    with pytest.raises(bakeoff.UnsupportedError, match="does not allow the pattern self"):
        model(**call)


def test_packed_sequences_keep_their_mask(catalog: bakeoff.Catalog) -> None:
    """Two texts in one row: a mask of pairs reaches what obeys one, and is refused else."""
    model = enlarged("llama")
    model.set_attn_implementation("sdpa")
    tokens = torch.randint(8, (1, 12), generator=torch.Generator().manual_seed(0))
    call = {"input_ids": tokens, "position_ids": torch.tensor([[*range(5), *range(7)]])}
    before = model(**call, use_cache=False).logits
    swap(model, catalog["scaled_dot_product"])
    torch.testing.assert_close(model(**call, use_cache=False).logits, before, **TIGHT)
    swap(model, catalog["linear_attention"], forward="linear")
    with pytest.raises(bakeoff.UnsupportedError, match="it obeys masks of kind 'keys' only"):
        model(**call, use_cache=False)
