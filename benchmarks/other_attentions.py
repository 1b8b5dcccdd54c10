"""Other people's attentions, ready to be timed: with ours they make the table of peers.py.

Each function takes the length and returns a :class:`Call`; it raises ImportError where the package
is missing. All use the same numbers as q, k and v, or as rows of features.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff.suites.grids import grid_of
from bakeoff.suites.race import Lap

HEADS, DIM = 4, 64
WIDTH = HEADS * DIM
#: |i − j| ≤ WINDOW.
WINDOW, FEATURES, LANDMARKS, RANK, BLOCK, LINKS, POINTS = 128, 256, 64, 128, 64, 3, 4

Tensor = torch.Tensor


@dataclass(frozen=True)
class Call:
    """What is timed: a function of nothing, and the leaves whose gradients training takes."""

    output: Callable[[], Tensor]
    leaves: Sequence[Tensor]

    def timed(self, direction: str) -> Lap:
        """The lap for a race."""
        if direction == "forward":

            def forward() -> object:
                with torch.no_grad():
                    return self.output()

            return lambda repeats: forward

        def training() -> object:
            output = self.output()
            signs = torch.ones_like(output)
            # Deformable attention has no use for k.
            return torch.autograd.grad(output, self.leaves, signs, allow_unused=True)

        return lambda repeats: training


def heads(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v (B, H, N, D), leaves."""
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(1, HEADS, n, DIM, generator=generator) for _ in range(3))
    q, k, v = (x.requires_grad_() for x in drawn)
    return q, k, v


def rows(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same numbers as rows of features (B, N, H·D), leaves."""
    q, k, v = (x.detach().transpose(1, 2).reshape(1, n, WIDTH).requires_grad_() for x in heads(n))
    return q, k, v


def of_heads(fn: Callable[[Tensor, Tensor, Tensor], Tensor], n: int, *more: Tensor) -> Call:
    """A call of a function of q, k and v."""
    q, k, v = heads(n)
    return Call(lambda: fn(q, k, v), (q, k, v, *more))


def of_layer(module: nn.Module, fn: Callable[[Tensor], Tensor], n: int) -> Call:
    """A call of a layer with its projections, on rows of features."""
    (x, _, _) = rows(n)
    return Call(lambda: fn(x), (x, *module.parameters()))


class Given(nn.Module):
    """In place of a projection: what it returns is given.

    Args:
        tensor: What to return.
        copied: Whether the caller changes it in place.
    """

    def __init__(self, tensor: Tensor, copied: bool = False) -> None:
        super().__init__()
        self.tensor, self.copied = [tensor], copied  # a list: it is no parameter of the module

    def forward(self, x: Tensor) -> Tensor:
        """The given tensor, whatever comes in."""
        (tensor,) = self.tensor
        return tensor.clone() if self.copied else tensor


def without_projections(module: nn.Module, n: int, names: Sequence[str], **more: Any) -> Call:
    """A layer whose projections return q, k and v; ``more`` goes to its forward."""
    given = rows(n)
    for name, tensor in zip(names, given, strict=True):
        module.add_module(name, Given(tensor))
    rest = [p for p in module.parameters() if p.requires_grad]

    def output() -> Tensor:
        found = module(given[0], **more)
        return found[0] if isinstance(found, tuple) else found

    return Call(output, (*given, *rest))


# Peers


def sdpa(n: int, causal: bool = False) -> Call:
    return of_heads(partial(F.scaled_dot_product_attention, is_causal=causal), n)


def sdpa_with_band(n: int) -> Call:
    place = torch.arange(n)
    band = (place[:, None] - place).abs() <= WINDOW
    return of_heads(partial(F.scaled_dot_product_attention, attn_mask=band), n)


def flex(n: int) -> Call:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def near(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i - j).abs() <= WINDOW

    mask = create_block_mask(near, None, None, n, n, device="cpu")
    compiled = torch.compile(flex_attention)
    q, k, v = (x.detach() for x in heads(n))
    return Call(lambda: compiled(q, k, v, block_mask=mask), ())


def local_attention(n: int, causal: bool = False) -> Call:
    from local_attention import LocalAttention

    module = LocalAttention(
        window_size=WINDOW, causal=causal, look_backward=1, look_forward=0 if causal else 1,
        exact_windowsize=True, autopad=True, use_rotary_pos_emb=False,
    )  # fmt: skip
    return of_heads(module, n)


def _longformer(n: int) -> nn.Module:
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    config = SimpleNamespace(
        hidden_size=WIDTH, num_attention_heads=HEADS, attention_window=[2 * WINDOW],
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return LongformerSelfAttention(config, 0)


def longformer_window(n: int) -> Call:
    module = _longformer(n)
    for name in ("query_global", "key_global", "value_global"):
        module.add_module(name, nn.Identity())
    never = torch.zeros(1, n, dtype=torch.bool)
    call = without_projections(
        module, n, ("query", "key", "value"), attention_mask=torch.zeros(1, n),
        is_index_masked=never, is_index_global_attn=never, is_global_attn=False,
    )  # fmt: skip
    module.add_module("query", Given(call.leaves[0], copied=True))  # it is scaled in place
    return call


def longformer_layer(n: int) -> Call:
    module = _longformer(n)
    mask, never = torch.zeros(1, n), torch.zeros(1, n, dtype=torch.bool)
    mask[:, 0] = 10000.0
    given = {
        "attention_mask": mask, "is_index_masked": never, "is_index_global_attn": mask > 0,
        "is_global_attn": True,
    }  # fmt: skip
    return of_layer(module, lambda x: module(x, **given)[0], n)


def performer(n: int, causal: bool = False) -> Call:
    from performer_pytorch import FastAttention

    return of_heads(FastAttention(DIM, nb_features=FEATURES, causal=causal), n)


def linear(n: int, causal: bool = False) -> Call:
    from performer_pytorch.performer_pytorch import (
        causal_linear_attention_noncuda,
        linear_attention,
    )

    scan = causal_linear_attention_noncuda if causal else linear_attention
    return of_heads(lambda q, k, v: scan(F.elu(q) + 1, F.elu(k) + 1, v), n)


def nystrom_attention(n: int) -> Call:
    from nystrom_attention import NystromAttention

    module = NystromAttention(WIDTH, DIM, HEADS, num_landmarks=LANDMARKS, residual=False)
    module.to_out = nn.Identity()
    q, k, v = rows(n)
    both = torch.cat([q, k, v], -1).detach().requires_grad_()
    module.to_qkv = Given(both)
    return Call(lambda: module(q), (both,))


def nystromformer(n: int) -> Call:
    from transformers.models.nystromformer.modeling_nystromformer import (
        NystromformerSelfAttention,
    )

    config = SimpleNamespace(
        hidden_size=WIDTH, num_attention_heads=HEADS, num_landmarks=LANDMARKS,
        segment_means_seq_len=n, conv_kernel_size=None, inv_coeff_init_option=False,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return without_projections(NystromformerSelfAttention(config), n, ("query", "key", "value"))


def linformer(n: int) -> Call:
    from linformer import LinformerSelfAttention

    module = LinformerSelfAttention(WIDTH, n, k=RANK, heads=HEADS)
    module.to_out = nn.Identity()
    return without_projections(module, n, ("to_q", "to_k", "to_v"))


def big_bird(n: int) -> Call:
    from transformers.models.big_bird.modeling_big_bird import (
        BigBirdBlockSparseAttention,
        BigBirdModel,
    )

    config = SimpleNamespace(
        hidden_size=WIDTH, num_attention_heads=HEADS, num_random_blocks=LINKS, block_size=BLOCK,
        use_bias=True, max_position_embeddings=max(4096, n),
    )  # fmt: skip
    blocked, band, before, after = BigBirdModel.create_masks_for_block_sparse_attn(
        torch.ones(1, n), BLOCK
    )
    # Its random blocks are drawn when training only; else each is the first.
    module = BigBirdBlockSparseAttention(config, seed=0).train()
    return without_projections(
        module, n, ("query", "key", "value"), band_mask=band, from_mask=before, to_mask=after,
        from_blocked_mask=blocked, to_blocked_mask=blocked,
    )  # fmt: skip


def deformable_detr(n: int) -> Call:
    from transformers.models.deformable_detr.modeling_deformable_detr import (
        DeformableDetrMultiscaleDeformableAttention,
    )

    grid = grid_of("pyramid", n)
    assert grid is not None
    config = SimpleNamespace(
        d_model=WIDTH, num_feature_levels=len(grid), disable_custom_kernels=True
    )
    module = DeformableDetrMultiscaleDeformableAttention(config, HEADS, POINTS)
    module.value_proj = module.output_proj = nn.Identity()
    keys = sum(height * width for height, width in grid)
    x = torch.randn(1, keys, WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_()
    given = {
        "encoder_hidden_states": x,
        "reference_points": torch.rand(1, keys, len(grid), 2),
        "spatial_shapes": torch.tensor(grid),
        "spatial_shapes_list": list(grid),
    }
    return Call(lambda: module(x, **given)[0], (x, *module.parameters()))


def torch_layer(n: int) -> Call:
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    return of_layer(module, lambda x: module(x, x, x, need_weights=False)[0], n)


def x_transformers(n: int) -> Call:
    from x_transformers.x_transformers import Attention

    module = Attention(WIDTH, dim_head=DIM, heads=HEADS, flash=True)

    def output(x: Tensor) -> Tensor:
        found = module(x)
        return found[0] if isinstance(found, tuple) else found

    (x, _, _) = rows(n)
    used = torch.autograd.grad(
        output(x[:, :64]).sum(), list(module.parameters()), allow_unused=True
    )
    learned = [p for p, g in zip(module.parameters(), used, strict=True) if g is not None]
    return Call(lambda: output(x), (x, *learned))


def tell(text: str) -> None:
    """Beside the table, on standard error."""
    print(text, file=sys.stderr, flush=True)
