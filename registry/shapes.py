"""The sizes of a call, and the case: everything that fixes what one call computes, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

__all__ = ["PATTERNS", "Case", "FeatureShape", "Shape"]

#: Who attends to whom: each pattern with what it means.
PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "self": "q, k and v from one source, every key visible",
        "cross": "k and v from another source than q",
        "causal_self": "q, k and v from one source, each query sees itself and the past",
        "causal_cross": "fewer queries than keys, aligned at the lower right",
        "decode": "one query against a cache of keys",
    }
)


@dataclass(frozen=True)
class Shape:
    """The sizes of one attention call.

    q is (batch, heads, q_len, head_dim), k is (batch, kv_heads, k_len, head_dim), v is
    (batch, kv_heads, k_len, value_dim). ``grid`` lists the (height, width) of each level of a
    feature map, with the sum of height·width equal to k_len; it is None for a plain sequence.

    Example:
        >>> Shape(batch=1, heads=4, kv_heads=4, q_len=128, k_len=128, head_dim=64, value_dim=64)
        Shape(B1 H4 Nq128 Nk128 D64)
    """

    batch: int
    heads: int
    kv_heads: int
    q_len: int
    k_len: int
    head_dim: int
    value_dim: int
    grid: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "heads", "kv_heads", "q_len", "k_len", "head_dim", "value_dim"):
            _require_positive(self, name)
        if self.heads % self.kv_heads:
            raise ValueError(
                f"Shape: heads must be a multiple of kv_heads, got heads={self.heads} and "
                f"kv_heads={self.kv_heads}"
            )
        if self.grid is not None:
            cells = sum(height * width for height, width in self.grid)
            if cells != self.k_len:
                raise ValueError(
                    f"Shape: the levels of grid={self.grid} hold {cells} positions, expected "
                    f"k_len={self.k_len}"
                )

    def __repr__(self) -> str:
        kv = f" Hkv{self.kv_heads}" if self.kv_heads != self.heads else ""
        value = f" Dv{self.value_dim}" if self.value_dim != self.head_dim else ""
        grid = f" grid={self.grid}" if self.grid else ""
        return (
            f"Shape(B{self.batch} H{self.heads}{kv} Nq{self.q_len} Nk{self.k_len} "
            f"D{self.head_dim}{value}{grid})"
        )

    @property
    def tokens(self) -> int:
        """Queries in one call, over the batch."""
        return self.batch * self.q_len


@dataclass(frozen=True)
class FeatureShape:
    """The sizes of one activation or connection call: x is (batch, seq_len, features).

    Example:
        >>> FeatureShape(batch=2, seq_len=128, features=256).tokens
        256
    """

    batch: int
    seq_len: int
    features: int

    def __post_init__(self) -> None:
        for name in ("batch", "seq_len", "features"):
            _require_positive(self, name)

    def __repr__(self) -> str:
        return f"FeatureShape(B{self.batch} N{self.seq_len} F{self.features})"

    @property
    def tokens(self) -> int:
        """Rows of features in one call."""
        return self.batch * self.seq_len


@dataclass(frozen=True, kw_only=True)
class Case:
    """Everything that fixes what a call computes and where it runs.

    A forward's ``supports``, ``flops`` and ``min_bytes`` are given one.

    Args:
        kind: ``"activation"``, ``"attention"`` or ``"connection"``.
        shape: :class:`Shape` for attention, :class:`FeatureShape` otherwise.
        pattern: One of :data:`PATTERNS` for attention, else None.
        options: The variant's options, complete.
        dtype: Name of a torch dtype, as ``"float32"``.
        device: ``"cpu"``, ``"cuda"``, ….
        direction: ``"forward"``, ``"backward"`` or ``"training"`` (forward and backward).
        mode: ``"eager"`` or ``"compiled"``.
        threads: Threads within one operation on the CPU.
        inputs: ``"normal"``, ``"peaked"`` or the path of a file of tensors.
        seed: Seed of everything drawn.
    """

    kind: str
    shape: Shape | FeatureShape
    pattern: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    device: str = "cpu"
    direction: str = "forward"
    mode: str = "eager"
    threads: int = 1
    inputs: str = "normal"
    seed: int = 0

    @property
    def causal(self) -> bool:
        """Whether a query may see only the keys up to its own place."""
        return self.pattern in ("causal_self", "causal_cross", "decode")

    @property
    def seq_len(self) -> int:
        """The length that is varied: keys when decoding, else queries or rows."""
        if isinstance(self.shape, Shape):
            return self.shape.k_len if self.pattern == "decode" else self.shape.q_len
        return self.shape.seq_len

    @property
    def attention_shape(self) -> Shape:
        """The shape, where the kind is attention."""
        if not isinstance(self.shape, Shape):
            raise TypeError(f"a case of kind {self.kind} has no attention shape: {self.shape}")
        return self.shape

    @property
    def visible_pairs(self) -> int:
        """Pairs of query and key that may attend, for one batch entry and head."""
        shape = self.attention_shape
        if not self.causal:
            return shape.q_len * shape.k_len
        offset = shape.k_len - shape.q_len
        return sum(max(0, min(shape.k_len, i + offset + 1)) for i in range(shape.q_len))

    @property
    def elements(self) -> int:
        """Elements of x, for activations and connections."""
        if isinstance(self.shape, Shape):
            raise TypeError("a case of kind attention has no x; use attention_shape")
        return math.prod((self.shape.batch, self.shape.seq_len, self.shape.features))


def _require_positive(shape: Any, name: str) -> None:
    value = getattr(shape, name)
    # While torch exports a model a size may be a symbol, which is no int; torch guards it.
    if type(value).__name__ == "SymInt":
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"{type(shape).__name__}: {name} must be an integer of at least 1, got {value!r}"
        )
