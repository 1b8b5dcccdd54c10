"""To the letter of others: with our weights, independent implementations give what ours gives.

Each implementation stands in for a forward of our variant: in float64, outputs and the gradients of
inputs and parameters must be within the error budget of our reference. Those that are not installed
are skipped; ``pip install 'bakeoff[peers]'`` brings them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import bakeoff
from bakeoff import Case, Shape
from bakeoff.registry.shapes import FeatureShape
from bakeoff.suites.budget import Oracle, gradients_of, output_of
from bakeoff.suites.grids import Grid, positions
from bakeoff.suites.tensors import Arguments

Tensor = torch.Tensor

CATALOG = bakeoff.load(entry_points=False, pyproject=False)
HEADS, DIM = 2, 8
WIDTH = HEADS * DIM

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the packages


def peer(name: str) -> Any:
    """A module of another package, or a skip with the reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed: bakeoff[peers]")


def ours(name: str) -> bakeoff.Variant:
    if name not in CATALOG:
        pytest.skip(f"{name} is not registered")
    return CATALOG[name]


def stirred(arguments: Arguments, seed: int) -> Arguments:
    """No parameter is zero or an identity, where an error would not show."""
    generator = torch.Generator().manual_seed(seed)
    learned = {
        name: t + 0.2 * torch.randn(t.shape, generator=generator).to(t)
        for name, t in arguments.learned.items()
    }
    return arguments.replacing(learned)


def require_same(
    variant: str,
    theirs: Callable[..., Tensor],
    n: int = 96,
    pattern: str = "self",
    grid: Grid | None = None,
    **options: Any,
) -> None:
    """``theirs`` agrees with the reference of ``variant`` in outputs and in all gradients."""
    chosen = ours(variant)
    case = Case(
        kind="attention",
        shape=Shape(2, HEADS, HEADS, n, n, DIM, DIM, grid),
        pattern=pattern,
        options={**chosen.options, **options},
        dtype="float64",
    )
    for measure in (output_of, gradients_of):
        for errors in Oracle(chosen, case, measure, stirred).judge(theirs):
            assert errors.right, errors.explain()


def require_same_of_one_source(
    variant: str,
    theirs: Callable[..., Tensor],
    grid: Grid | None,
    **options: Any,
) -> None:
    """The same in float32, for a layer that takes one sequence for queries, keys and values."""
    chosen = ours(variant)
    reference = chosen.forward("reference").fn
    context = {"grid": grid} if grid else {}

    def of_one_source(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
        return reference(q, q, q, **given, **context)

    case = Case(
        kind="attention",
        shape=Shape(2, HEADS, HEADS, 96, 96, DIM, DIM, grid),
        pattern="self",
        options=options,
    )
    for measure in (output_of, gradients_of):
        oracle = Oracle(chosen, case, measure, stirred, reference=of_one_source)
        for errors in oracle.judge(theirs):
            assert errors.right, errors.explain()


def rows(x: Tensor) -> Tensor:
    """(B, H, N, D) as rows of features, (B, N, H·D)."""
    return x.transpose(1, 2).flatten(2)


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, DIM)).transpose(1, 2)


class Given(nn.Module):
    """In place of a projection: what it returns is set before each call."""

    def forward(self, x: Tensor) -> Tensor:
        return self.tensor


def projected_as(module: nn.Module, *names: str) -> Callable[[Tensor, Tensor, Tensor], None]:
    """Replaces projections of a layer; what is returned sets what they return, q, k and v."""
    given = [Given() for _ in names]
    for name, one in zip(names, given, strict=True):
        setattr(module, name, one)

    def give(*tensors: Tensor) -> None:
        for one, tensor in zip(given, tensors, strict=True):
            one.tensor = rows(tensor)

    return give


def config(**given: Any) -> Any:
    """A configuration of transformers, read by attribute or by item."""

    class Config(SimpleNamespace):
        def __getitem__(self, name: str) -> Any:
            return getattr(self, name)

    return Config(hidden_size=WIDTH, num_attention_heads=HEADS, **given)


# torch


@pytest.mark.parametrize("pattern", ["self", "causal_self"])
def test_multi_head_is_that_of_torch(pattern: str) -> None:
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def theirs(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, **p: Any) -> Tensor:
        names = ("query", "key", "value")
        weights = {
            "in_proj_weight": torch.cat([p[f"w_{name}"] for name in names]),
            "in_proj_bias": torch.cat([p[f"b_{name}"] for name in names]),
            "out_proj.weight": p["w_output"],
            "out_proj.bias": p["b_output"],
        }
        upper = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1) if causal else None
        given = (rows(q), rows(k), rows(v))
        more = {"need_weights": False, "attn_mask": upper}
        return heads(functional_call(module, weights, given, more)[0])

    require_same("multi_head", theirs, n=37, pattern=pattern)


# local-attention, linformer, nystrom-attention, performer-pytorch


@pytest.mark.parametrize("pattern", ["self", "causal_self"])
def test_a_window_is_that_of_local_attention(pattern: str) -> None:
    """At a whole number of blocks: what it pads it attends to."""
    package, causal = peer("local_attention"), pattern == "causal_self"
    module = package.LocalAttention(
        window_size=16, causal=causal, look_backward=1, look_forward=0 if causal else 1,
        exact_windowsize=True, use_rotary_pos_emb=False,
    )  # fmt: skip
    require_same(
        "sliding_window", lambda q, k, v, **_: module(q, k, v), n=96, pattern=pattern, window=16
    )


def test_linformer_is_that_of_linformer() -> None:
    module = peer("linformer").LinformerSelfAttention(WIDTH, 37, k=8, heads=HEADS)
    module.to_out = nn.Identity()
    give = projected_as(module, "to_q", "to_k", "to_v")

    def theirs(q: Tensor, k: Tensor, v: Tensor, **p: Any) -> Tensor:
        give(q, k, v)
        weights = {"proj_k": p["project_key"].mT, "proj_v": p["project_value"].mT}
        return heads(functional_call(module, weights, (rows(q),)))

    require_same("linformer", theirs, n=37, rank=8)


def test_nystromformer_is_that_of_nystrom_attention() -> None:
    """One example and one head: its inverse begins with the largest norm of all."""
    package = peer("nystrom_attention")
    module = package.NystromAttention(DIM, DIM, 1, num_landmarks=8, residual=False)
    module.to_out, module.to_qkv = nn.Identity(), Given()

    def theirs(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        found = []
        for one in zip(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), strict=True):
            module.to_qkv.tensor = torch.cat(one, -1)[None]
            found.append(module(one[0][None]))
        return torch.cat(found).unflatten(0, q.shape[:2])

    require_same("nystromformer", theirs, landmarks=8)


@pytest.mark.parametrize("pattern", ["self", "causal_self"])
def test_performer_has_the_features_of_performer_pytorch(pattern: str) -> None:
    """Without the constant that it adds to each feature."""
    package = peer("performer_pytorch.performer_pytorch")

    def theirs(q: Tensor, k: Tensor, v: Tensor, *, projection: Tensor, **_: Any) -> Tensor:
        given = {"projection_matrix": projection, "eps": 0.0}
        query = package.softmax_kernel(q, is_query=True, **given)
        key = package.softmax_kernel(k, is_query=False, **given)
        if pattern == "self":
            return package.linear_attention(query, key, v)
        return package.causal_linear_attention_noncuda(query, key, v, chunk_size=4, eps=0.0)

    require_same("performer", theirs, n=36, pattern=pattern, features=32)


@pytest.mark.parametrize("pattern", ["self", "causal_self"])
def test_linear_attention_is_that_of_performer_pytorch(pattern: str) -> None:
    package = peer("performer_pytorch.performer_pytorch")

    def theirs(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        query, key = F.elu(q) + 1, F.elu(k) + 1
        if pattern == "self":
            return package.linear_attention(query, key, v)
        return package.causal_linear_attention_noncuda(query, key, v, chunk_size=4, eps=0.0)

    require_same("linear_attention", theirs, n=36, pattern=pattern)


# transformers


@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_longformer_is_that_of_transformers(tokens: int) -> None:
    """In float32, in which it takes its softmax."""
    package = peer("transformers.models.longformer.modeling_longformer")
    given = config(attention_window=[32], attention_probs_dropout_prob=0.0)
    module = package.LongformerSelfAttention(given, 0)

    def theirs(q: Tensor, k: Tensor, v: Tensor, **p: Any) -> Tensor:
        names = ("query", "key", "value", "query_global", "key_global", "value_global")
        weights = {f"{name}.weight": p[f"w_{name}"] for name in names}
        weights |= {f"{name}.bias": p[f"b_{name}"] for name in names}
        mask = torch.zeros(q.shape[0], q.shape[2])
        mask[:, :tokens] = 10000.0
        more = {
            "attention_mask": mask, "is_index_masked": mask < 0, "is_index_global_attn": mask > 0,
            "is_global_attn": tokens > 0,
        }  # fmt: skip
        return heads(functional_call(module, weights, (rows(q),), more)[0])

    require_same_of_one_source("longformer", theirs, None, window=16, global_tokens=tokens)


@pytest.mark.parametrize("shifted", [False, True])
def test_swin_is_that_of_transformers(shifted: bool) -> None:
    """In float32, in which it takes its softmax; what its layer adds is left out."""
    package = peer("transformers.models.swin.modeling_swin")
    given = package.SwinConfig(embed_dim=WIDTH, window_size=4, attn_implementation="eager")
    layer = package.SwinLayer(given, WIDTH, (8, 12), HEADS, shift_size=2 if shifted else 0)
    layer.layernorm_before = layer.layernorm_after = layer.mlp = nn.Identity()
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        setattr(layer.attention, name, nn.Identity())
    kept: list[Tensor] = []
    layer.drop_path.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))

    def theirs(q: Tensor, k: Tensor, v: Tensor, *, position_bias: Tensor, **_: Any) -> Tensor:
        table = position_bias.flatten(1).mT
        name = "attention.relative_position_bias.relative_position_bias_table"
        functional_call(layer, {name: table}, (rows(q), (8, 12)))
        return heads(kept.pop())

    require_same_of_one_source("swin", theirs, ((8, 12),), window=4, shifted=shifted)


def test_bigbird_is_that_of_transformers() -> None:
    """With our random blocks in place of those that it draws."""
    package = peer("transformers.models.big_bird.modeling_big_bird")
    given = config(num_random_blocks=3, block_size=8, use_bias=True, max_position_embeddings=96)
    module = package.BigBirdBlockSparseAttention(given, seed=0).eval()
    give = projected_as(module, "query", "key", "value")

    def theirs(q: Tensor, k: Tensor, v: Tensor, *, links: Tensor, **_: Any) -> Tensor:
        assert (links[:, 1:-1] >= 0).all()
        drawn = [np.asarray(own) for own in links[:, 1:-1].long()]
        module._bigbird_block_rand_mask_with_head = lambda **_: drawn
        give(q, k, v)
        ones = torch.ones(q.shape[0], q.shape[2])
        masks = package.BigBirdModel.create_masks_for_block_sparse_attn(ones, 8)
        blocked, band, before, after = masks
        return heads(module(rows(q), band, before, after, blocked, blocked)[0])

    require_same("bigbird", theirs, block_size=8, random_blocks=3)


def test_nystromformer_is_that_of_transformers() -> None:
    package = peer("transformers.models.nystromformer.modeling_nystromformer")
    given = config(
        num_landmarks=8, segment_means_seq_len=96, conv_kernel_size=None,
        inv_coeff_init_option=True, inv_init_coeff_option="exact",
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    module = package.NystromformerSelfAttention(given)
    give = projected_as(module, "query", "key", "value")

    def theirs(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        give(q, k, v)
        return heads(module(rows(q))[0])

    require_same("nystromformer", theirs, landmarks=8)


@pytest.mark.parametrize("grid", [((8, 12),), ((8, 12), (4, 6))])
def test_deformable_is_that_of_transformers(grid: Grid) -> None:
    package = peer("transformers.models.deformable_detr.modeling_deformable_detr")
    given = config(d_model=WIDTH, num_feature_levels=len(grid), disable_custom_kernels=True)
    module = package.DeformableDetrMultiscaleDeformableAttention(given, HEADS, 4)
    module.value_proj = module.output_proj = nn.Identity()

    def theirs(q: Tensor, k: Tensor, v: Tensor, *, reference_points: Tensor, **p: Any) -> Tensor:
        weights = {"sampling_offsets.weight": p["w_offset"], "sampling_offsets.bias": p["b_offset"]}
        weights |= {"attention_weights.weight": p["w_weight"]}
        weights |= {"attention_weights.bias": p["b_weight"]}
        more = {
            "encoder_hidden_states": rows(v),
            "reference_points": reference_points[:, :, None].expand(-1, -1, len(grid), -1),
            "spatial_shapes": torch.tensor(grid),
            "spatial_shapes_list": list(grid),
        }
        return heads(functional_call(module, weights, (rows(q),), more)[0])

    require_same("deformable", theirs, n=positions(grid), grid=grid, points=4)


# entmax


@pytest.mark.parametrize(("name", "theirs"), [("sparsemax", "sparsemax"), ("entmax15", "entmax15")])
def test_activations_are_those_of_entmax(name: str, theirs: str) -> None:
    fn = getattr(peer("entmax"), theirs)
    variant = ours(name)
    case = Case(kind="activation", shape=FeatureShape(2, 19, 24), options=variant.options)
    for measure in (output_of, gradients_of):
        for errors in Oracle(variant, case, measure).judge(lambda x, **_: fn(x, dim=-1)):
            assert errors.right, errors.explain()


# The comparison itself can fail


def test_a_peer_that_differs_is_found() -> None:
    def shifted(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, scale=0.36)

    with pytest.raises(AssertionError, match="the output has an RMS error of"):
        require_same("scaled_dot_product", shifted)


def test_a_peer_with_another_gradient_is_found() -> None:
    def detached(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        return F.scaled_dot_product_attention(q, k.detach(), v)

    with pytest.raises(AssertionError, match="the gradient of k has an RMS error of"):
        require_same("scaled_dot_product", detached)


def test_parameters_are_stirred() -> None:
    variant = CATALOG["multi_head"]
    case = Case(kind="attention", shape=Shape(1, 2, 2, 4, 4, 8, 8), pattern="self")
    from bakeoff.suites.tensors import arguments_for

    drawn = arguments_for(variant, replace(case, options=variant.options))
    assert not drawn.learned["b_query"].any()
    assert stirred(drawn, 0).learned["b_query"].all()
