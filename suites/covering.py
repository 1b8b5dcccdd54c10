"""Sizes and arguments at which every forward is tried: a covering array, not their product.

Faults hide where two things meet: a third example, an odd head under a mask, more queries than keys
with causality. Trying everything with everything would take millions of calls; an array that holds
each *pair* of values in some row takes about seventy (Kuhn, Wallace and Gallo, 2004, found that
one or two factors cause most failures of software), and of what an attention is asked for each
triple. What would cost too much, as many heads at the longest lengths, is left out by constraints,
and so is what a variant declares that it can't do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bakeoff.registry.binding import takes
from bakeoff.registry.shapes import Case, FeatureShape, Shape
from bakeoff.registry.variants import Attention, Variant
from bakeoff.suites.grids import NO_GRID, grid_of

__all__ = [
    "FACTORS",
    "MOST_ELEMENTS",
    "Array",
    "Row",
    "array_of",
    "case_of",
    "extra_of",
    "words_of",
]

#: A value of each factor.
Row = Mapping[str, Any]

#: How many queries there are to how many keys, where the longer side is n.
_LENGTHS = ("equal", "more keys", "more queries", "decode")
#: The factors of each kind, with their values.
FACTORS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "attention": {
        "batch": (1, 3),
        "heads": (1, 2, 3, 6, 8),
        "kv_heads": (1, 2, 3, 4, 6, 8),
        "head_dim": (1, 7, 16, 64, 80, 128, 256),
        "value_dim": ("equal", "other"),
        "n": (1, 2, 63, 64, 65, 127, 257, 1000, 2049),
        "lengths": _LENGTHS,
        "causal": (False, True),
        "grid": (NO_GRID, "square"),
        "mask": ("none", "keys", "full", "heads"),
        "scale": (None, 0.3, 0.0, "negative"),
        "dtype": (),
    },
    "features": {
        "batch": (1, 3),
        "seq_len": (1, 2, 63, 257),
        "features": (1, 7, 24, 65, 257),
        "dims": (2, 3, 4),
        "dtype": (),
    },
}
#: The most products of a query's feature with a key's that a row may cost: B·H·Nq·Nk·D, where what
#: is done to each pair besides counts as :data:`_EACH_PAIR` features.
MOST_ELEMENTS = 2 * 10**7
_EACH_PAIR = 4
#: Where a value is tried alone, to see whether a variant can do it at all.
_PLAIN = {
    "batch": 1, "heads": 6, "kv_heads": 6, "head_dim": 16, "value_dim": "equal", "n": 64,
    "lengths": "equal", "causal": False, "grid": NO_GRID, "mask": "none", "scale": None,
}  # fmt: skip
#: What meets in every row, so that each triple of values does: who may attend to whom, and in what.
_CLOSEST = ("batch", "lengths", "causal", "mask", "dtype")
_MASKS = {"keys": "mask over keys", "full": "mask over pairs", "heads": "mask of each head"}


@dataclass(frozen=True)
class Array:
    """The rows, the cheapest first, and the values from which they were made.

    Args:
        factors: The values of each factor that the variant can do.
        rows: Every pair of values that is possible together is in one of them.
    """

    factors: Mapping[str, tuple[Any, ...]]
    rows: tuple[Row, ...]

    @property
    def pairs(self) -> int:
        """How many pairs of values there are, possible or not."""
        return sum(len(a) * len(b) for a, b in itertools.combinations(self.factors.values(), 2))

    @property
    def reached(self) -> int:
        """How many of them some row holds."""
        return len(
            {
                (a, row[a], b, row[b])
                for row in self.rows
                for a, b in itertools.combinations(self.factors, 2)
            }
        )


def array_of(variant: Variant, dtypes: Iterable[str]) -> Array:
    """The array for what a variant's reference can do, in these dtypes."""
    factors = _factors_of(variant, tuple(dtypes))
    patterns = variant.declared("patterns")
    return _array(tuple(factors.items()), tuple(patterns) if patterns else None)


def case_of(variant: Variant, row: Row, **fields: Any) -> Case:
    """The case of a row, with what else a case has; mask and scale are no part of it."""
    fields = {
        "kind": variant.kind,
        "options": dict(variant.options),
        "dtype": row["dtype"],
        **fields,
    }
    if variant.kind != "attention":
        # An activation of four dimensions takes as many rows, once more split in two.
        length = row["seq_len"] * (2 if row["dims"] == 4 else 1)
        features = row["features"] * (2 if getattr(variant, "gated", False) else 1)
        return Case(shape=FeatureShape(row["batch"], length, features), **fields)
    queries, keys = _sizes(row)
    grid = grid_of(row.get("grid", NO_GRID), keys)
    value_dim = row["head_dim"] + (5 if row["value_dim"] == "other" else 0)
    kv_heads = row.get("kv_heads", row["heads"])
    shape = Shape(
        row["batch"], row["heads"], kv_heads, queries, keys, row["head_dim"], value_dim, grid
    )
    return Case(shape=shape, pattern=_pattern(row), **fields)


def extra_of(row: Row) -> dict[str, Any]:
    """What of a row no case holds: the mask and the scale, or the dimensions of x."""
    if "dims" in row:
        return {"dims": row["dims"]}
    # Larger than the usual one, and of its order.
    negative = -round(1.5 / math.sqrt(row["head_dim"]), 3)
    return {"mask": row["mask"], "scale": negative if row["scale"] == "negative" else row["scale"]}


def words_of(case: Case, extra: Mapping[str, Any]) -> str:
    """A case of the array in words, as ``B3 H6 Hkv2 Nq257 Nk64 D7, causal, mask of each head``."""
    sizes = repr(case.shape).partition("(")[2].removesuffix(")")
    words = [sizes]
    if "dims" in extra:
        words.append(f"x of {extra['dims']} dimensions")
    if case.causal:
        words.append("causal")
    if extra.get("mask", "none") != "none":
        words.append(_MASKS[extra["mask"]])
    if extra.get("scale") is not None:
        words.append(f"scale {extra['scale']:g}".replace("-", "−"))
    return ", ".join([*words, case.dtype])


def _factors_of(variant: Variant, dtypes: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    """The values of each factor that the reference takes, whatever the others are."""
    if variant.kind != "attention":
        return {**FACTORS["features"], "dtype": dtypes}
    factors = {**FACTORS["attention"], "dtype": dtypes}
    if not (isinstance(variant, Attention) and variant.grouped):
        del factors["kv_heads"]
    if not takes(variant, "grid"):
        del factors["grid"]
    bases = list(_bases(factors))
    return {
        name: tuple(value for value in values if _is_possible(variant, name, value, bases))
        for name, values in factors.items()
    }


def _bases(factors: Mapping[str, tuple[Any, ...]]) -> Iterator[Row]:
    """Plain rows of every pattern, on a grid and off it, with key heads as many and fewer."""
    heads = ((6, 6), (6, 1), (8, 4)) if "kv_heads" in factors else ((6, 6),)
    for lengths, causal, grid, (h, kv), dtype in itertools.product(
        factors["lengths"],
        factors["causal"],
        factors.get("grid", (NO_GRID,)),
        heads,
        factors["dtype"],
    ):
        row = {**_PLAIN, "lengths": lengths, "causal": causal, "grid": grid, "dtype": dtype}
        row |= {"heads": h, "kv_heads": kv}
        yield row if "kv_heads" in factors else {n: v for n, v in row.items() if n != "kv_heads"}


def _is_possible(variant: Variant, name: str, value: Any, bases: Iterable[Row]) -> bool:
    """Whether the reference runs a plain row with this value."""
    for base in bases:
        row = {**base, name: value}
        if not all(holds(row) for _, holds in _constraints(row)):
            continue
        case = case_of(variant, row)
        if variant.excluded(case) is None and variant.forward("reference").why_not(case) is None:
            return True
    return False


@lru_cache(maxsize=64)
def _array(
    factors: tuple[tuple[str, tuple[Any, ...]], ...], patterns: tuple[str, ...] | None
) -> Array:
    """The array of these values, where only these patterns are allowed; the same each time."""
    import covertable  # some milliseconds that only a certificate needs

    values = {name: list(found) for name, found in factors}
    if not all(values.values()):
        return Array(dict(factors), ())
    given = list(_constraints(values))
    if patterns is not None and "lengths" in values:
        given.append((("lengths", "causal"), lambda row: _pattern(row) in patterns))
    rows = covertable.make(
        values,
        constraints=[
            {"operator": "fn", "requires": list(names), "evaluate": holds} for names, holds in given
        ],
        sub_models=[{"fields": list(_CLOSEST), "strength": 3}] if "lengths" in values else [],
    )
    return Array(dict(factors), tuple(sorted((dict(row) for row in rows), key=_cost)))


def _constraints(factors: Iterable[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What can't be, or costs too much: the factors concerned, and whether a row of them holds."""
    names = set(factors)
    if "lengths" not in names:
        return
    yield ("lengths", "causal"), lambda row: row["lengths"] != "decode" or row["causal"]
    yield ("lengths", "n"), lambda row: row["n"] >= _LEAST[row["lengths"]]
    if "kv_heads" in names:
        yield ("heads", "kv_heads"), lambda row: row["heads"] % row["kv_heads"] == 0
    if "grid" in names:
        # A grid has no order that could be causal.
        yield ("causal", "grid"), lambda row: row["grid"] == NO_GRID or not row["causal"]
    # Each alone first, so that no row is begun that can't be ended.
    for some in (("heads",), ("head_dim",), ("batch",), ("batch", "heads", "head_dim")):
        yield ("lengths", "n", *some), lambda row: _cost(row) <= MOST_ELEMENTS


#: The least n of which one side can be shorter than the other.
_LEAST = {"equal": 1, "more keys": 5, "more queries": 2, "decode": 2}


def _sizes(row: Row) -> tuple[int, int]:
    """Queries and keys."""
    n = row["n"]
    match row["lengths"]:
        case "more keys":  # more than four for each query
            return n // 5, n
        case "more queries":
            return n, 2 * n // 3
        case "decode":
            return 1, n
    return n, n


def _pattern(row: Row) -> str:
    if row["lengths"] == "decode":
        return "decode"
    equal = "self" if row["lengths"] == "equal" else "cross"
    return f"causal_{equal}" if row["causal"] else equal


def _cost(row: Row) -> int:
    """B·H·Nq·Nk·D, or the elements of x; of what a row does not say, the least."""
    if "lengths" not in row:
        return int(row["batch"] * row["seq_len"] * row["features"])
    queries, keys = _sizes(row)
    each = row.get("batch", 1) * row.get("heads", 1) * max(row.get("head_dim", 1), _EACH_PAIR)
    return int(each * queries * keys)
