"""Bytes that theory asks for, in float32: what each activation saves, and dense attention's peaks.

The tests hold the memory suite against it, and so does the proof in docs/measuring.md.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SAVED", "Saved", "naive_peak", "naive_saved", "sdpa_saved"]


@dataclass(frozen=True)
class Saved:
    """What a graph keeps: bytes an element, a row and a feature, and which tensors these are."""

    what: str
    element: float
    row: int = 0
    feature: int = 0

    def of(self, rows: int, features: int) -> float:
        """Bytes for an input of so many rows."""
        return self.element * rows * features + self.row * rows + self.feature * features


_ONE = Saved("the input or the result", 4)
_EXPONENTIAL = Saved("x, expm1, the mask", 9)

SAVED: dict[str, Saved] = {
    "celu:reference": _EXPONENTIAL,
    "celu:torch": _ONE,
    "elu:reference": _EXPONENTIAL,
    "elu:torch": _ONE,
    "entmax15:reference": Saved(
        "order, halves, sorted, means, rest, the mask, the root; index and root a row; counts",
        29,
        12,
        4,
    ),
    "entmax15:package": _ONE,
    "geglu:reference": Saved("x; of the half: gate, product, erf's input", 10),
    "geglu:torch": Saved("x; of the half: GELU", 6),
    "gelu:reference": Saved("x / 2, erf's input, 1 + erf", 12),
    "gelu:torch": _ONE,
    "gelu_tanh:reference": Saved("x, the gate", 8),
    "gelu_tanh:torch": _ONE,
    "glu:reference": Saved("x; of the half: the gate", 6),
    "glu:torch": _ONE,
    "hardsigmoid:reference": Saved("two masks", 2),
    "hardsigmoid:torch": _ONE,
    "hardswish:reference": Saved("x, the gate, two masks", 10),
    "hardswish:torch": _ONE,
    "hardtanh:reference": Saved("two masks", 2),
    "hardtanh:torch": _ONE,
    "identity:reference": Saved("nothing", 0),
    "identity:view": Saved("nothing", 0),
    "leaky_relu:reference": Saved("a mask", 1),
    "leaky_relu:torch": _ONE,
    "log_softmax:reference": Saved("exp; a sum a row", 4, 4),
    "log_softmax:torch": _ONE,
    "mish:reference": Saved("x, zeros, tanh", 12),
    "mish:torch": _ONE,
    "prelu:reference": Saved("x, the mask; the slopes", 5, 0, 4),
    "prelu:torch": Saved("x; the slopes", 4, 0, 4),
    "quick_gelu:reference": Saved("x, the sigmoid", 8),
    "quick_gelu:torch": _ONE,
    "reglu:reference": Saved("x; of the half: ReLU, the mask", 6.5),
    "reglu:torch": Saved("x; of the half: ReLU", 6),
    "relu:reference": Saved("a mask", 1),
    "relu:torch": _ONE,
    "relu6:reference": Saved("two masks", 2),
    "relu6:torch": _ONE,
    "selu:reference": _EXPONENTIAL,
    "selu:torch": _ONE,
    "sigmoid:reference": Saved("x, both exponentials and denominators, the mask", 21),
    "sigmoid:torch": _ONE,
    "silu:reference": Saved("x, the sigmoid", 8),
    "silu:torch": _ONE,
    "softmax:reference": Saved("exp; a sum a row", 4, 4),
    "softmax:torch": _ONE,
    "softplus:reference": Saved("x, zeros", 8),
    "softplus:torch": _ONE,
    "softsign:reference": Saved("x, both parts, both denominators, the mask", 21),
    "softsign:torch": Saved("x, 1 + |x|", 8),
    "sparsemax:reference": Saved("order, sums, the mask; index and support a row", 13, 16),
    "sparsemax:package": Saved("the result; the support a row", 4, 8),
    "squared_relu:reference": Saved("x, the mask", 5),
    "squared_relu:torch": Saved("ReLU", 4),
    "swiglu:reference": Saved("x; of the half: gate, product", 8),
    "swiglu:torch": Saved("x; of the half: SiLU", 6),
    "swish_beta:reference": Saved("x, the sigmoid; beta", 8, 0, 4),
    "swish_beta:tanh": Saved("x / 2, tanh; beta", 8, 0, 4),
    "tanh:reference": Saved("x, three numerators, both denominators, the mask", 25),
    "tanh:torch": _ONE,
}


def naive_peak(heads: int, n: int, dim: int, *, training: bool) -> int:
    """softmax(q kᵀ · scale) v: scores and weights at once, and the output.

    In training the weights, their gradient and that of the scores, the output and the gradient of
    v, and the scale as a number of eight bytes.
    """
    matrix, vectors = heads * n * n * 4, heads * n * dim * 4
    return 3 * matrix + 2 * vectors + 8 if training else 2 * matrix + vectors


def naive_saved(heads: int, n: int, dim: int) -> int:
    """q, k, v and the weights."""
    return 3 * heads * n * dim * 4 + heads * n * n * 4


def sdpa_saved(heads: int, n: int, dim: int) -> int:
    """q, k, v, the output, and the logarithm of a sum for each row."""
    return 4 * heads * n * dim * 4 + heads * n * 4
