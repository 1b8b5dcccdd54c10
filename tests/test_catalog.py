"""The catalog: immutable, in a stable order, found by name, alias, kind and tag."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bakeoff
from bakeoff import (
    Activation,
    Attention,
    Catalog,
    Connection,
    InvalidVariantError,
    Metadata,
    UnknownNameError,
    UsageError,
)


def activation(name: str = "planted", **metadata: Any) -> Activation:
    fields: dict[str, Any] = {
        "title": "Planted",
        "summary": "For tests.",
        "formula": "x",
        "strengths": ("short",),
        "weaknesses": ("useless",),
        "use_when": "Never.",
        "tags": ("hidden_layer",),
    }
    return Activation(
        name, forwards={"reference": torch.abs}, metadata=Metadata(**{**fields, **metadata})
    )


def test_nothing_built_in_has_a_problem(catalog: Catalog) -> None:
    assert catalog.problems == ()


def test_what_is_built_in(catalog: Catalog) -> None:
    kinds = {kind: {v.name for v in catalog.select(kind=kind)} for kind in ("attention",)}
    assert kinds["attention"] >= {
        "dot_product", "scaled_dot_product", "additive", "general", "multi_head", "sliding_window"
    }  # fmt: skip
    assert {v.name for v in catalog.select(kind="connection")} >= {"plain", "residual", "pre_norm"}
    assert {v.name for v in catalog.select(kind="activation")} >= {
        "identity", "sigmoid", "tanh", "relu", "leaky_relu", "prelu", "silu", "swish_beta",
        "softmax", "gelu", "gelu_tanh", "quick_gelu", "elu", "selu", "celu", "mish", "softplus",
        "softsign", "hardtanh", "relu6", "hardsigmoid", "hardswish", "squared_relu",
        "log_softmax", "sparsemax", "entmax15", "glu", "reglu", "geglu", "swiglu",
    }  # fmt: skip


def test_each_has_a_file_and_a_paper(catalog: Catalog) -> None:
    for name, variant in catalog.items():
        if "peer" in variant.metadata.tags:
            assert catalog.origins[name].startswith("bakeoff.plugins.peers.")
            continue
        assert catalog.origins[name] == f"bakeoff.plugins.{_folder(variant.kind)}.{name}"
        assert variant.metadata.paper
        assert variant.metadata.paper.bibtex.startswith("@misc{")


def _folder(kind: str) -> str:
    return kind if kind == "attention" else f"{kind}s"


def test_names_and_aliases(catalog: Catalog) -> None:
    assert catalog["silu"] is catalog["swish"]
    assert catalog["identity"] is catalog["linear"]
    assert "swish" in catalog
    assert "swish" not in list(catalog)
    assert len(catalog) == len(list(catalog)) == len(set(catalog))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("relo", "did you mean relu?"), ("Swish", "did you mean swish?"), ("x" * 50, "known: ")],
)
def test_unknown_names(catalog: Catalog, name: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        catalog[name]
    assert str(caught.value).startswith(f"no variant is called {name!r}; {hint}")
    assert name not in catalog
    assert catalog.get(name) is None


def test_select(catalog: Catalog) -> None:
    names = [v.name for v in catalog.select(names=["swish", "relu"])]
    assert names == ["relu", "silu"]  # the order of the catalog
    assert all(isinstance(v, Attention) for v in catalog.select(kind="attention"))
    assert all(isinstance(v, Connection) for v in catalog.select(kind=["connection"]))
    chosen = catalog.select(tags=["local", "soft"])
    assert chosen == tuple(v for v in catalog.values() if {"local", "soft"} <= {*v.metadata.tags})
    assert catalog["sliding_window"] in chosen
    assert catalog.select(kind="activation", tags="local") == ()
    assert catalog.select() == tuple(catalog.values())


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"kind": "atention"}, "no kind is called 'atention'; did you mean attention?"),
        ({"tags": ["sof"]}, "no tag is called 'sof'; did you mean soft?"),
        ({"names": ["relo"]}, "no variant is called 'relo'; did you mean relu?"),
    ],
)
def test_select_of_what_there_is_not(catalog: Catalog, wanted: Any, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message.replace("?", r"\?")):
        catalog.select(**wanted)


def test_select_of_what_is_no_name(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match=r"got 3 \(int\), expected a text or several"):
        catalog.select(names=3)  # type: ignore[arg-type]


def test_the_order_is_stable_over_processes(catalog: Catalog) -> None:
    script = "import bakeoff; print(*bakeoff.load(entry_points=False, pyproject=False))"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == list(catalog)


def test_nothing_can_be_changed(catalog: Catalog) -> None:
    silu = catalog["silu"]
    with pytest.raises(TypeError):
        catalog["new"] = silu  # type: ignore[index]
    with pytest.raises(TypeError):
        del catalog["silu"]  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        catalog.variants["new"] = silu  # type: ignore[index]
    for frozen, field in ((catalog, "problems"), (silu, "name"), (silu.metadata, "title")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(frozen, field, "other")
    for mapping in (silu.options, silu.forwards, silu.metadata.properties):
        with pytest.raises(TypeError):
            mapping["new"] = 1  # type: ignore[index]


def test_with_variants(catalog: Catalog) -> None:
    more = catalog.with_variants(activation(aliases=("sown",)))
    assert more["sown"].name == "planted"
    assert list(more) == [*catalog, "planted"]
    assert "planted" not in catalog
    assert more.with_variants(activation("another")).added[-1].name == "another"


def test_with_variants_refuses_a_second_of_one_name(catalog: Catalog) -> None:
    with pytest.raises(InvalidVariantError, match=r"the name 'planted' of planted .* is already"):
        catalog.with_variants(activation(), activation())


@pytest.mark.parametrize("name", ["linear", "planted"])
def test_a_plugin_may_not_take_an_alias(catalog: Catalog, name: str) -> None:
    with pytest.raises(InvalidVariantError, match=r"is already|not used twice"):
        catalog.with_variants(activation(aliases=(name,)))


def refusal(make: Callable[[], Activation]) -> str:
    """Why a catalog refuses a variant; empty where it takes it. No other exception may come."""
    try:
        Catalog({}).with_variants(make())
    except bakeoff.BakeoffError as error:
        return str(error)
    return ""


@settings(max_examples=150, deadline=None)
@given(name=st.one_of(st.text(max_size=12), st.none(), st.integers(), st.binary(max_size=3)))
def test_any_name_is_taken_or_refused(name: Any) -> None:
    if told := refusal(lambda: activation(name)):
        assert "lower_snake_case" in told
    else:
        assert name == name.lower()
        assert name.isidentifier()


JUNK = st.one_of(
    st.none(), st.integers(), st.text(max_size=5), st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), st.floats(), st.booleans(),
    st.lists(st.one_of(st.none(), st.integers()), max_size=3),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    field=st.sampled_from([f.name for f in dataclasses.fields(Metadata)]),
    junk=JUNK,
)
def test_any_metadata_is_taken_or_refused(field: str, junk: Any) -> None:
    told = refusal(lambda: activation(**{field: junk}))
    assert not told or field in told


@settings(max_examples=100, deadline=None)
@given(
    field=st.sampled_from(
        ["forwards", "options", "parameters", "inputs", "noise", "identities", "approximates"]
    ),
    junk=JUNK,
)
def test_any_field_is_taken_or_refused(field: str, junk: Any) -> None:
    told = refusal(lambda: dataclasses.replace(activation(), **{field: junk}))
    assert not told or field in told
