"""What holds of any attention, whatever it computes, at any size: no other definition is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from bakeoff.registry.masking import allowed_keys
from bakeoff.registry.shapes import Case
from bakeoff.registry.variants import Attention, Forward, Variant
from bakeoff.suites.tensors import Arguments, arguments_for, dtype_of, unit_roundoff
from bakeoff.suites.verdicts import Unsupported, Verdict, largest_of, right_if

__all__ = ["LAWS", "Instance", "changes_with_other_queries", "resized"]

#: How much louder hidden values become: what is damped, and not hidden, shows too.
LOUD = {"float16": 1e4}
LOUD_DEFAULT = 1e6
#: How many budgets of an output two ways to compute one element of it may differ by: the largest of
#: many differences, each of two errors.
SLACK = 32.0
#: Where features are cut off at zero a key may miss a query: not with so many features, nor in each
#: of so many draws.
LEAST_FEATURES, DRAWS = 16, 4


@dataclass(frozen=True)
class Instance:
    """One forward at one row of the covering array.

    Args:
        variant: The variant.
        name: Of the forward.
        case: The case.
        arguments: Of one call, with its mask and scale.
        where: The case in words.
        budget: The error budget of the output, in units of its RMS.
    """

    variant: Variant
    name: str
    case: Case
    arguments: Arguments
    where: str
    budget: float

    @property
    def forward(self) -> Forward:
        """The forward."""
        return self.variant.forward(self.name)

    @property
    def allowed(self) -> torch.Tensor:
        """Which pairs may attend, (B, H, Nq, Nk)."""
        q, k = self.arguments.data["q"], self.arguments.data["k"]
        plain = self.arguments.plain
        allowed = allowed_keys(q, k, plain["mask"], plain["causal"])
        every = torch.ones(*q.shape[:3], k.shape[2], dtype=torch.bool, device=q.device)
        return every if allowed is None else every & allowed

    def output(self, arguments: Arguments | None = None) -> torch.Tensor:
        """What the forward returns, without a graph."""
        with torch.no_grad():
            return (arguments or self.arguments).call(self.forward.fn)

    def same(self, found: torch.Tensor, expected: torch.Tensor, what: str) -> Verdict:
        """Right where both agree but for the order of sums."""
        return self.unmoved(found - expected, expected, what)

    def unmoved(self, moved: torch.Tensor, expected: torch.Tensor, what: str) -> Verdict:
        """Right where a difference is that of the order of sums."""
        change, shape = largest_of(moved), self.case.attention_shape
        sums = math.sqrt(shape.k_len + shape.head_dim) * unit_roundoff(dtype_of(self.case.dtype))
        slack = SLACK * max(self.budget, sums) * largest_of(expected)
        return right_if(change <= slack, f"{self.where}: {what} by {change:.3g}", change)


def hidden_keys(instance: Instance) -> Verdict:
    """What a query may not attend to, by mask, causality or both, has no effect on its output."""
    allowed, before = instance.allowed, instance.output()
    mixed = _mixes_heads(instance, before)
    last = before.shape[2] - 1
    verdicts = []
    for query in sorted({0, last // 2, last}):
        hidden = ~allowed[:, :, query]
        if mixed:  # what one head hides another may see
            hidden = hidden.all(1, keepdim=True).expand_as(hidden)
        hidden = _by_key_head(instance, hidden).all(2)  # (B, Hkv, Nk)
        if not bool(hidden.any()):
            continue
        after = instance.output(_other_keys(instance, hidden))
        verdicts.append(
            instance.same(
                after[:, :, query],
                before[:, :, query],
                f"query {query} changes with keys and values that are hidden from it",
            )
        )
    return _worst(verdicts, "nothing is hidden")


def examples_apart(instance: Instance) -> Verdict:
    """An example alone gives what it gives in a batch."""
    batch = instance.case.attention_shape.batch
    if batch == 1:
        raise Unsupported("there is one example")
    before = instance.output()
    return _worst(
        instance.same(
            instance.output(resized(instance, range(b, b + 1), batch=1))[0],
            before[b],
            f"example {b} of {batch} differs from what it gives alone",
        )
        for b in range(batch)
    )


def queries_apart(instance: Instance) -> Verdict:
    """No query depends on a later one under causality, and on none at all unless it is declared."""
    queries = instance.case.attention_shape.q_len
    if queries < 2:
        raise Unsupported("there is one query")
    if instance.variant.declared("mixes_queries") and not instance.case.causal:
        raise Unsupported("it declares that queries are mixed")
    change, before = changes_with_other_queries(instance)
    which = "later queries" if instance.case.causal else "other queries"
    return instance.unmoved(change, before, f"query {(queries - 1) // 2} changes with {which}")


def changes_with_other_queries(instance: Instance) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the middle query's output moves with the others, under causality with later ones.

    There the outputs before it are looked at, too. Beside the change stand the outputs before it.
    """
    q = instance.arguments.data["q"]
    middle = (q.shape[2] - 1) // 2
    places = torch.arange(q.shape[2], device=q.device)[:, None]
    causal = instance.case.causal
    others = places > middle if causal else places != middle
    other = torch.where(others, _drawn(q, 1), q)
    rows = slice(0 if causal else middle, middle + 1)
    before = instance.output()[:, :, rows]
    after = instance.output(instance.arguments.replacing({"q": other}))[:, :, rows]
    return after - before, before


def causal_as_mask(instance: Instance) -> Verdict:
    """A mask that hides what causality hides means the same; one that hides nothing, nothing."""
    forward, plain = instance.forward, instance.arguments.plain
    if forward.masks == "none":
        raise Unsupported("it declares that it obeys no mask")
    before = instance.output()
    if plain["mask"] is None:
        every = torch.ones_like(instance.allowed)
        if forward.masks == "keys":
            every = every[:, :1, :1]
        after = instance.output(instance.arguments.having(mask=every))
        return instance.same(after, before, "a mask that hides nothing changes outputs")
    raise Unsupported("there is a mask already")


def every_key_seen(instance: Instance) -> Verdict:
    """A global attention lets every key that is not hidden take part in the output."""
    tags = set(instance.variant.metadata.tags)
    if not {"soft", "global"} <= tags or tags & {"sparse", "hard"}:
        raise Unsupported("only what is tagged soft and global sees every key")
    wide = dtype_of(instance.case.dtype).itemsize >= 4
    if not wide or not instance.forward.backward or instance.arguments.plain["scale"] is not None:
        raise Unsupported("a weight may be rounded to zero")
    if instance.case.attention_shape.head_dim < LEAST_FEATURES:
        raise Unsupported("a key of few features may have none in common with a query")
    visible = _by_key_head(instance, instance.allowed[:, :, -1]).any(2)  # (B, Hkv, Nk)
    unseen = visible
    for salt in range(DRAWS):
        if not bool(unseen.any()):
            break
        unseen = unseen & _without_effect(instance, salt)
    count = int(unseen.sum())
    where = unseen.nonzero()[0].tolist() if count else []
    return right_if(
        not count,
        f"{instance.where}: {count} of {int(visible.sum())} visible keys have no effect on the "
        f"last query, as that at (example, head, place) {where}",
        count,
    )


def _without_effect(instance: Instance, salt: int) -> torch.Tensor:
    """Which values (B, Hkv, Nk) the last query does not see, with other queries and keys."""
    data = instance.arguments.data
    drawn = {name: _drawn(data[name], 2 * salt + n) for n, name in enumerate(("q", "k"))}
    leaves = instance.arguments.replacing(drawn if salt else {}).requiring_grad()
    output = leaves.call(instance.forward.fn)[:, :, -1]
    (slopes,) = torch.autograd.grad(output.square().sum(), [leaves.data["v"]])
    return (slopes == 0).all(-1)


def key_heads_repeat(instance: Instance) -> Verdict:
    """With fewer key heads, each serves as many query heads that follow one another."""
    variant, shape = instance.variant, instance.case.attention_shape
    if not (isinstance(variant, Attention) and variant.grouped) or shape.kv_heads in (
        1,
        shape.heads,
    ):
        raise Unsupported("each head has keys of its own, or all share one head of them")
    group = shape.heads // shape.kv_heads
    before = instance.output()
    after = instance.output(_other_keys(instance, _of_first_head(instance)))
    what = f"heads from {group} on change with the first head of keys"
    return instance.same(after[:, group:], before[:, group:], what)


#: In the order in which a reader looks for the cause.
LAWS = (
    hidden_keys,
    examples_apart,
    queries_apart,
    causal_as_mask,
    key_heads_repeat,
    every_key_seen,
)


def _mixes_heads(instance: Instance, before: torch.Tensor) -> bool:
    """Whether an output changes with the keys of heads that do not serve it."""
    shape = instance.case.attention_shape
    after = instance.output(_other_keys(instance, _of_first_head(instance)))
    group = shape.heads // shape.kv_heads
    return not torch.equal(after[:, group:], before[:, group:])


def _of_first_head(instance: Instance) -> torch.Tensor:
    """All places of the first head of keys, (B, Hkv, Nk)."""
    shape = instance.case.attention_shape
    first = torch.arange(shape.kv_heads)[None, :, None] == 0
    return first.expand(shape.batch, -1, shape.k_len)


def _by_key_head(instance: Instance, by_head: torch.Tensor) -> torch.Tensor:
    """What is said of each head (B, H, Nk), by the head of keys that serves it (B, Hkv, G, Nk)."""
    shape = instance.case.attention_shape
    return by_head.view(shape.batch, shape.kv_heads, -1, shape.k_len)


def _other_keys(instance: Instance, where: torch.Tensor) -> Arguments:
    """Other keys, and other and far louder values, where ``where`` (B, Hkv, Nk) is True."""
    loud = LOUD.get(instance.case.dtype, LOUD_DEFAULT)
    data = {}
    for salt, (name, size) in enumerate((("k", 1.0), ("v", loud))):
        old = instance.arguments.data[name]
        data[name] = torch.where(where[..., None].to(old.device), size * _drawn(old, salt), old)
    return instance.arguments.replacing(data)


def _drawn(like: torch.Tensor, salt: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 + salt)
    return torch.randn(like.shape, generator=generator).to(like)


def resized(instance: Instance, kept: range, **sizes: Any) -> Arguments:
    """The arguments of a smaller case, each cut out of what the larger one has.

    What belongs to the variant (inputs, parameters, noise) has sizes that only the variant knows:
    those are cut that differ where they are drawn for the smaller case.
    """
    shape = instance.case.attention_shape
    smaller = replace(instance.case, shape=replace(shape, **sizes))
    drawn = arguments_for(instance.variant, smaller, seed=instance.case.seed)
    full = instance.arguments

    def cut(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        for dim, (have, want) in enumerate(zip(tensor.shape, like.shape, strict=True)):
            if have != want and kept.start + want > have:
                raise Unsupported("a tensor of the variant has sizes that do not follow the length")
            if have != want:
                tensor = tensor.narrow(dim, kept.start, want)
        return tensor

    groups: dict[str, Any] = {}
    for group in ("data", "learned", "given", "fixed"):
        pairs = getattr(full, group), getattr(drawn, group)
        groups[group] = {
            name: cut(tensor, pairs[1][name]) if isinstance(tensor, torch.Tensor) else tensor
            for name, tensor in pairs[0].items()
        }
    mask = full.plain["mask"]
    if mask is not None:
        dims = (0,) if "batch" in sizes else (2, 3)
        for dim in dims:
            if mask.shape[dim] > 1:
                mask = mask.narrow(dim, kept.start, len(kept))
    return replace(full, **groups, plain={**full.plain, "mask": mask})


def _worst(verdicts: Iterator[Verdict] | list[Verdict], otherwise: str = "") -> Verdict:
    found = list(verdicts)
    if not found:
        raise Unsupported(otherwise)
    return max(found, key=lambda verdict: (verdict.status.severity, verdict.value or 0.0))
