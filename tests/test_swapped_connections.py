"""Connections in models: with its own a model is itself, and its layers hear all they are told."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_swap import (
    TIGHT,
    Call,
    assert_differs,
    assert_parameters_travel,
    attentive,
    enlarged,
    gradients,
    outputs,
)
from torch import nn

import bakeoff
from bakeoff.suites.applications.sites import activation_sites, attention_sites
from bakeoff.suites.applications.swap import restore, swap

pytest.importorskip("transformers", reason="transformers is not installed: bakeoff[transformers]")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of transformers

Tensor = torch.Tensor

OWN = {  # which connection a model has, and the epsilon of its normalisation
    "gpt2": ("pre_norm", 1e-5),
    "vit": ("pre_norm", 1e-12),
    "clip": ("pre_norm", 1e-5),
    "bert": ("post_norm", 1e-12),
    "uniter": ("post_norm", 1e-12),
    "detr": ("post_norm", 1e-5),
    "deformable_detr": ("post_norm", 1e-5),
}
DETECTORS = ("detr", "deformable_detr")
#: Branches: two of each layer, three of each in a detector's decoder.
SITES = {"gpt2": 4, "bert": 4, "detr": 10, "deformable_detr": 10}
LEARNABLE = ("pre_norm", "post_norm", "rezero", "layer_scale", "highway", "deepnorm")


def connect(catalog: bakeoff.Catalog, name: str, model: nn.Module, **given: Any) -> nn.Module:
    """The model's own connection swapped in, with the gains and biases of its own norms."""
    variant, eps = OWN[name]
    swap(model, catalog[variant], options={"eps": eps}, **given)
    for layer in connected(model).values():
        for connection, norm in zip(layer.connections, norms_of(layer).values(), strict=True):
            connection.load_state_dict(norm.state_dict())
    return model


def connected(model: nn.Module) -> dict[str, Any]:
    from bakeoff.suites.applications.connection import ConnectedLayer

    return {n: each for n, each in model.named_modules() if isinstance(each, ConnectedLayer)}


def norms_of(layer: Any) -> dict[str, nn.Module]:
    """Those of the layer as it was, in the order of its branches."""
    modules = layer.original.named_modules()
    return {name: each for name, each in modules if isinstance(each, nn.LayerNorm)}


def names_before(model: nn.Module) -> dict[str, str]:
    """By the name of a weight, its name before the swap: a connection's are those of a norm."""
    names = {name: name.replace(".original.", ".") for name, _ in model.named_parameters()}
    for path, layer in connected(model).items():
        for place, norm in enumerate(norms_of(layer)):
            for weight in ("weight", "bias"):
                names[f"{path}.connections.{place}.{weight}"] = f"{path}.{norm}.{weight}"
    return names


@pytest.mark.parametrize("name", OWN)
def test_the_models_own_connection_swapped_in_is_the_model(
    catalog: bakeoff.Catalog, name: str
) -> None:
    """In outputs and in all gradients, those of its norms among them."""
    model, call = attentive(name)
    before, slopes = outputs(model, call).detach(), gradients(model, call)
    connect(catalog, name, model)
    torch.testing.assert_close(outputs(model, call), before, **TIGHT)
    names = names_before(model)
    after = {names[weight]: slope for weight, slope in gradients(model, call).items()}
    assert after.keys() == slopes.keys()
    for weight, slope in slopes.items():
        torch.testing.assert_close(
            after[weight], slope, **TIGHT, msg=lambda told, w=weight: f"gradient of {w}: {told}"
        )
    swap(model, catalog["plain"])
    assert_differs(outputs(model, call), before)
    torch.testing.assert_close(outputs(restore(model), call), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", OWN)
def test_what_is_dropped_at_random_is_dropped_still(catalog: bakeoff.Catalog, name: str) -> None:
    """The same numbers are drawn, in the same order."""
    model, call = attentive(name)
    call.pop("labels", None)
    undropped = outputs(model, call)
    dropping(model)
    before = drawn(model, call)
    assert_differs(before, undropped)
    torch.testing.assert_close(drawn(connect(catalog, name, model), call), before, **TIGHT)


def dropping(model: nn.Module) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.3


def drawn(model: nn.Module, call: Call) -> Tensor:
    torch.manual_seed(7)
    return outputs(model, call)


@pytest.mark.parametrize("name", [name for name in OWN if name != "uniter"])
def test_a_model_returns_all_that_it_did(catalog: bakeoff.Catalog, name: str) -> None:
    """Hidden states and weights of attention too, whether first asked for before or after."""
    model, call = attentive(name)
    model.set_attn_implementation("eager")
    call = {**call, "output_hidden_states": True, "output_attentions": True}
    late = copy.deepcopy(model)
    before = dict(tensors(model(**call)))
    assert sum("hidden_states" in part for part in before) > 2
    assert sum("attentions" in part for part in before) > 1
    for twin in (model, late):
        after = dict(tensors(connect(catalog, name, twin)(**call)))
        assert after.keys() == before.keys()
        for part, value in before.items():
            torch.testing.assert_close(after[part], value, **TIGHT, msg=part)


def tensors(found: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Those that a model returns, and what it returns them in."""
    if isinstance(found, Tensor):
        yield path, found
    elif isinstance(found, dict):
        for name, value in found.items():
            yield from tensors(value, f"{path}.{name}")
    elif isinstance(found, tuple | list):
        for place, value in enumerate(found):
            yield from tensors(value, f"{path}.{place}")


@pytest.mark.parametrize("name", OWN)
def test_attentions_are_told_what_they_were(catalog: bakeoff.Catalog, name: str) -> None:
    """Every argument by its name, and none more."""
    model, call = attentive(name)
    before = told_to_attentions(model, call)
    after = told_to_attentions(connect(catalog, name, model), call)
    assert after.keys() == before.keys()
    for argument, value in before.items():
        torch.testing.assert_close(after[argument], value, **TIGHT, msg=argument)


def told_to_attentions(model: nn.Module, call: Call) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def listener(path: str, attention: nn.Module) -> Any:
        signature = inspect.signature(inspect.unwrap(type(attention).forward))

        def listen(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            told = signature.bind(attention, *args, **kwargs).arguments
            rest = told.pop("kwargs", {})
            named = {**told, **rest, "self": None}.items()
            found.update({f"{path}.{n}": value for n, value in named if value is not None})

        return attention.register_forward_pre_hook(listen, with_kwargs=True)

    sampling = {n: each for n, each in model.named_modules() if hasattr(each, "sampling_offsets")}
    attentions = {**attention_sites(model), **sampling}
    hooks = [listener(n.replace(".original", ""), each) for n, each in attentions.items()]
    model(**call)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("name", DETECTORS)
def test_a_layer_hears_everything_that_it_is_told(catalog: bakeoff.Catalog, name: str) -> None:
    """Positions, masks, the image and where to look: each moves it as it moves the original."""
    model, call = attentive(name)
    connect(catalog, name, model)
    told_of, heard = set(), set()
    for layer, told in calls_of(model, call):
        usual = layer.original(**told)
        torch.testing.assert_close(layer(**told), usual, **TIGHT)
        # An index of levels is for kernels that torch's own sampling does without.
        for argument in [a for a in told if a not in ("spatial_shapes_list", "level_start_index")]:
            other = {**told, argument: moved(told[argument])}
            expected = layer.original(**other)
            torch.testing.assert_close(layer(**other), expected, **TIGHT, msg=argument)
            told_of.add((type(layer.original), argument))
            if (expected - usual).abs().max() > 1e-3:  # the first queries are all zero, and alike
                heard.add((type(layer.original), argument))
    assert heard == told_of


def calls_of(model: nn.Module, call: Call) -> list[tuple[Any, dict[str, Any]]]:
    """With what the layers of a detector are called; a decoder is told which queries count."""
    found = []

    def listen(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        names = list(inspect.signature(layer.original.forward).parameters)
        told = {**dict(zip(names, args, strict=False)), **kwargs}
        if "object_queries_position_embeddings" in told:
            told["attention_mask"] = torch.ones(3, 1, 4, 4, dtype=torch.bool)
            told["attention_mask"][0, ..., 1] = False
        found.append((layer, {k: v for k, v in told.items() if v is not None}))

    layers = connected(model).values()
    hooks = [layer.register_forward_pre_hook(listen, with_kwargs=True) for layer in layers]
    model(**call)
    for hook in hooks:
        hook.remove()
    return found


def moved(value: Tensor) -> Tensor:
    if value.dtype == torch.bool:
        return value.roll(1, 0)
    if not value.is_floating_point():
        return value + 1
    generator = torch.Generator().manual_seed(4)
    return value + 0.1 * torch.randn(value.shape, generator=generator, dtype=value.dtype)


def test_a_decoder_without_an_image_has_one_branch_less(catalog: bakeoff.Catalog) -> None:
    model, _ = attentive("detr")
    decoder, states = model.model.decoder, torch.randn(2, 4, 32).double()
    before = decoder(inputs_embeds=states).last_hidden_state
    connect(catalog, "detr", model)
    torch.testing.assert_close(decoder(inputs_embeds=states).last_hidden_state, before, **TIGHT)


@pytest.mark.parametrize("name", DETECTORS)
def test_what_overflows_in_training_is_brought_back(catalog: bakeoff.Catalog, name: str) -> None:
    model, call = attentive(name)
    swap(model, catalog["residual"], where="*.encoder.*")
    layer, told = calls_of(model, call)[0]
    told["hidden_states"] = torch.full_like(told["hidden_states"], torch.inf)
    layer.original.self_attn.forward = lambda x, **_: (torch.zeros_like(x), None)
    layer.original.mlp.forward = torch.zeros_like
    assert layer.eval()(**told).isinf().all()
    assert layer.train()(**told).isfinite().all()


@pytest.mark.parametrize("variant", LEARNABLE)
@pytest.mark.parametrize("name", SITES)
def test_a_connection_gets_gradients_at_every_site(
    catalog: bakeoff.Catalog, name: str, variant: str
) -> None:
    """Away from where it begins, since gates of zero leave the encoder of a detector unheard.

    Not at every weight: the first queries are zero, and so is what multiplies them.
    """
    model, call = attentive(name)
    swap(model, catalog[variant])
    generator = torch.Generator().manual_seed(5)
    new = {n: p for n, p in model.named_parameters() if ".connections." in n}
    with torch.no_grad():
        for weight in new.values():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator).double())
    slopes = gradients(model, call)
    heard = {path.rpartition(".")[0] for path in new if slopes[path].any()}
    assert len(heard) == SITES[name]


@pytest.mark.parametrize("name", SITES)
def test_connections_know_their_places(catalog: bakeoff.Catalog, name: str) -> None:
    """Among all branches of the model, also where some layers are left out."""
    model, call = attentive(name)
    total, seen = SITES[name], []

    def curious(x: Tensor, branch: Any, *, layer: int, depth: int) -> Tensor:
        seen.append((layer, depth))
        return x + branch(x)

    variant = replace(
        catalog["residual"], name="curious", forwards={"reference": curious}, identities=()
    )
    outputs(swap(model, variant), call)
    assert seen == [(place, total) for place in range(total)]
    seen.clear()
    outputs(swap(restore(model), variant, where="*.1"), call)
    second = list(range(2, 4)) if total == 4 else [2, 3, 7, 8, 9]
    assert seen == [(place, total) for place in second]


@pytest.mark.parametrize("name", DETECTORS)
def test_the_layers_that_are_left_out_stay(catalog: bakeoff.Catalog, name: str) -> None:
    model, call = attentive(name)
    before = outputs(model, call)
    connect(catalog, name, model, where="*.decoder.*")
    assert len(connected(model)) == 2
    torch.testing.assert_close(outputs(model, call), before, **TIGHT)


@pytest.mark.parametrize("name", SITES)
def test_the_parameters_of_connections_are_the_models_own(
    catalog: bakeoff.Catalog, name: str
) -> None:
    model, call = attentive(name)
    state, before = model.state_dict().keys(), outputs(model, call)
    swap(model, catalog["layer_scale"])
    twin = assert_parameters_travel(model, call, ".connections.")
    assert restore(model).state_dict().keys() == state
    assert torch.equal(outputs(model, call), before)
    assert {p.dtype for p in twin.bfloat16().parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", SITES)
def test_gradient_checkpointing_changes_nothing(catalog: bakeoff.Catalog, name: str) -> None:
    model, call = attentive(name)
    swap(model, catalog["layer_scale"]).train()
    slopes = gradients(model, call)
    model.gradient_checkpointing_enable()
    again = gradients(model, call)
    assert again.keys() == slopes.keys()
    for weight, slope in slopes.items():
        torch.testing.assert_close(again[weight], slope, **TIGHT)


@pytest.mark.parametrize("name", SITES)
def test_connections_attentions_and_activations_together(
    catalog: bakeoff.Catalog, name: str
) -> None:
    model, call = attentive(name)
    before, activations = outputs(model, call), activation_sites(model)
    for variant in ("layer_scale", "sigmoid_attention", "prelu"):
        swap(model, catalog[variant], example=call)
    slopes = gradients(model, call)
    new = [path for path in slopes if path.endswith((".gamma", ".slope"))]
    assert len(new) == SITES[name] + len(activations)
    assert all(slopes[path].any() for path in new)
    assert torch.equal(outputs(restore(model), call), before)


def test_other_connections_are_refused(catalog: bakeoff.Catalog) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    other = DistilBertModel(DistilBertConfig(vocab_size=9, dim=8, n_layers=1, n_heads=2))
    with pytest.raises(
        bakeoff.UnsupportedError,
        match=r"no layer whose connections can be swapped; those of .*DeformableDetrDecoderLayer",
    ):
        swap(other, catalog["rezero"])
    with pytest.raises(bakeoff.UnsupportedError, match="what earlier layers gave"):
        swap(enlarged("detr"), catalog["dense"])


def test_cross_attention_elsewhere_is_refused(catalog: bakeoff.Catalog) -> None:
    from transformers import GPT2Config, GPT2Model

    model = GPT2Model(
        GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=2, add_cross_attention=True)
    )
    swap(model, catalog["rezero"])
    tokens = torch.tensor([[1, 2]])
    with pytest.raises(bakeoff.UnsupportedError, match="only in the decoders of DETR"):
        model(tokens, encoder_hidden_states=torch.zeros(1, 3, 8))
