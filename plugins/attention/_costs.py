"""What attention over pairs of positions costs at least, for the forwards that do it."""

from __future__ import annotations

from bakeoff import Case

__all__ = ["pair_flops"]


def pair_flops(case: Case) -> float:
    """Two matrix products over the visible pairs, two operations a multiply-add."""
    shape = case.attention_shape
    products = shape.head_dim + shape.value_dim
    return 2.0 * shape.batch * shape.heads * case.visible_pairs * products
