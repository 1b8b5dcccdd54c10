"""Trials of what torch is known to get wrong: what it gives, and what is right.

Each takes a device and returns one number with the right one, which does not come from the
operation that is tried: from float64, from a sum that is known, or from counting by hand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from bakeoff.suites.faults.fault import Answer
from bakeoff.suites.peaks import saved_bytes

__all__ = [
    "bfloat16_product",
    "causal_with_a_cache",
    "causal_with_a_negative_scale",
    "equal_numbers_of_two_seeds",
    "flex_attention_gradient",
    "fused_attention_counted",
    "gradient_of_a_module",
    "hard_activations",
    "products_counted",
    "row_of_lowest_scores",
    "row_without_keys",
    "tanhshrink_near_zero",
    "values_of_another_size",
]

#: Of a bfloat16 product: one rounding of the result, and what float32 sums lose.
BFLOAT16_SLACK = 2**-7


def _draw(*shape: int, device: str = "cpu", seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(device)


def bfloat16_product(device: str) -> Answer:
    """Parts of larger matrices, between columns that are NaN; and rows between rows of NaN."""
    wrong = 0
    for rows, inner in ((128, 37), (128, 33), (64, 65), (16, 40)):
        left = _draw(rows, inner).to(device, torch.bfloat16)
        right = _draw(inner, 64, seed=1).to(device, torch.bfloat16)
        wide = torch.full((rows, inner + 3), torch.nan, dtype=torch.bfloat16, device=device)
        wide[:, 2 : inner + 2] = left
        between = left.clone()
        between[1::2] = torch.nan
        for matrix in (wide[:, 2 : inner + 2], between):
            wrong += _wrong_products(matrix, right)
    return Answer(wrong, 0)


def _wrong_products(left: torch.Tensor, right: torch.Tensor) -> int:
    """How many elements of a product, of those that are finite, float64 says otherwise."""
    exact = left.double() @ right.double()
    slack = BFLOAT16_SLACK * (left.double().abs() @ right.double().abs())
    good = ((left @ right).double() - exact).abs() <= slack
    return int((exact.isfinite() & ~good).sum())


def causal_with_a_cache(device: str) -> Answer:
    """Two queries for five keys: the last query is to see every key."""
    q, k, v = _draw(1, 1, 2, 8, device=device), *(_draw(2, 1, 1, 5, 8, device=device))
    lower = torch.ones(2, 5, dtype=torch.bool, device=device).tril(3)
    scores = (q.double() @ k.double().mT / 8**0.5).masked_fill(~lower, -torch.inf)
    right = scores.softmax(-1) @ v.double()
    got = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return Answer(float((got - right).abs().max()), 0, 1e-3)


def causal_with_a_negative_scale(device: str) -> Answer:
    """Nine queries, causal: where the scale is −1/2 or 0 the future is to stay hidden."""
    q, k, v = _draw(3, 1, 1, 9, 8, device=device)
    lower = torch.ones(9, 9, dtype=torch.bool, device=device).tril()
    wrong = 0
    for scale in (-0.5, 0.0):
        scores = (q.double() @ k.double().mT * scale).masked_fill(~lower, -torch.inf)
        right = scores.softmax(-1) @ v.double()
        got = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        wrong += int((~((got - right).abs() <= 1e-3)).sum())
    return Answer(wrong, 0)


def row_without_keys(device: str) -> Answer:
    """One of four queries has no key: its output and all gradients are to be finite."""
    q, k, v = (t.requires_grad_() for t in _draw(3, 1, 1, 4, 8, device=device))
    mask = torch.ones(4, 4, dtype=torch.bool, device=device)
    mask[1] = False
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    found = (output, *torch.autograd.grad(output.sum(), (q, k, v)))
    return Answer(sum(int((~t.isfinite()).sum()) for t in found), 0)


def row_of_lowest_scores(device: str) -> Answer:
    """Weights add up to one, so that the gradients of all values add up to what came in."""
    q, k, v = (t.requires_grad_() for t in _draw(3, 1, 1, 5, 8, device=device))
    mask = torch.full((5, 5), torch.finfo(torch.float32).min, device=device)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    (into_v,) = torch.autograd.grad(output[0, 0, 1].sum(), v)
    return Answer(float(into_v.sum()) / 8, 1, 1e-3)


def values_of_another_size(device: str) -> Answer:
    """What a linear method keeps: its inputs, its output, and a number for each query."""
    length = 256
    q, k = (t.requires_grad_() for t in _draw(2, 1, 1, length, 8, device=device))
    v = _draw(1, 1, length, 16, device=device).requires_grad_()
    linear = q.element_size() * length * (8 + 8 + 16 + 16 + 1)
    kept = saved_bytes(lambda: F.scaled_dot_product_attention(q, k, v))
    return Answer(kept, linear, linear)


def _flops(call: Callable[[], object]) -> int:
    from torch.utils.flop_counter import FlopCounterMode  # takes a second to import

    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def fused_attention_counted(device: str) -> Answer:
    """Two products of N × N × D, each with two operations for a multiply-add."""
    q, k, v = _draw(3, 1, 1, 16, 8, device=device)
    got = _flops(lambda: F.scaled_dot_product_attention(q, k, v))
    return Answer(got, 2 * 2 * 16 * 16 * 8)


def products_counted(device: str) -> Answer:
    """A matrix times a vector, a vector times a vector, and products that are added in place."""
    matrix, vector, square = (_draw(*s, device=device) for s in ((8, 8), (8,), (1, 8, 8)))

    def call() -> None:
        _ = matrix @ vector, vector @ vector
        torch.zeros_like(matrix).addmm_(matrix, matrix)
        torch.zeros_like(square).baddbmm_(square, square)

    return Answer(_flops(call), 2 * (8 * 8 + 8 + 8**3 + 8**3))


def gradient_of_a_module(device: str) -> Answer:
    """The gradient of a module by its input, while FLOPs are counted."""
    module, x = torch.nn.ReLU(), _draw(2, 4, device=device).requires_grad_()
    return _gradient_is_made(
        lambda: _flops(lambda: torch.autograd.grad(module(x).sum(), x)), RuntimeError
    )


def flex_attention_gradient(device: str) -> Answer:
    """The gradient of queries by FlexAttention."""
    from torch.nn.attention.flex_attention import flex_attention

    q, k, v = (t.requires_grad_() for t in _draw(3, 1, 1, 16, 16, device=device))

    def call() -> object:
        output = flex_attention(q, k, v)
        assert isinstance(output, torch.Tensor)
        return torch.autograd.grad(output.sum(), q)

    return _gradient_is_made(call, NotImplementedError)


def _gradient_is_made(call: Callable[[], object], refusal: type[Exception]) -> Answer:
    """One gradient, and none where torch refuses: the refusal is the fault."""
    try:
        call()
    except refusal:
        return Answer(0, 1)
    return Answer(1, 1)


def hard_activations(device: str) -> Answer:
    """Slope 1/6 of hard sigmoid, (2x + 3)/6 of hard swish."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, device=device).requires_grad_()
    (sigmoid,) = torch.autograd.grad(F.hardsigmoid(x).sum(), x)
    (swish,) = torch.autograd.grad(F.hardswish(x).sum(), x)
    errors = torch.stack([sigmoid - 1 / 6, swish - (2 * x.detach() + 3) / 6])
    return Answer(float(errors.abs().max()), 0, 1e-14)


def tanhshrink_near_zero(device: str) -> Answer:
    """x − tanh x = x³/3 − 2x⁵/15 + …"""
    x = 1e-3
    right = x**3 / 3 - 2 * x**5 / 15
    return Answer(float(F.tanhshrink(torch.tensor(x, device=device))), right, 1e-5 * right)


def equal_numbers_of_two_seeds(device: str) -> Answer:
    """How many of eight numbers are the same for two seeds that differ by 2³²."""
    one, other = (
        torch.rand(8, generator=torch.Generator(device).manual_seed(seed), device=device)
        for seed in (1, 1 + 2**32)
    )
    return Answer(int((one == other).sum()), 0)
