"""What a variant is: three kinds, one frozen spec each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bakeoff.registry.errors import UnknownNameError, did_you_mean
from bakeoff.registry.frozen import FrozenMap
from bakeoff.registry.metadata import Metadata
from bakeoff.registry.shapes import Case

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

__all__ = [
    "COMPLEXITIES",
    "KINDS",
    "Activation",
    "Attention",
    "Connection",
    "Forward",
    "Identity",
    "Variant",
]

MaskSupport = Literal["none", "keys", "full"]

#: How a cost may grow with the sequence length N, with the exponent that is measured for it.
COMPLEXITIES: Mapping[str, float] = MappingProxyType(
    {"1": 0.0, "N": 1.0, "N log N": 1.0, "N sqrt N": 1.5, "N^2": 2.0}
)


@dataclass(frozen=True)
class Forward:
    """One way to compute a variant, with what it can do and what it costs.

    Args:
        fn: The pure function, with the arguments of its kind.
        supports: Given a :class:`Case`, None where it can run, else the reason why not.
        masks: The finest mask that it obeys: ``"none"``, ``"keys"`` (one for all queries,
            (B, 1, 1, Nk)) or ``"full"`` (B, H, Nq, Nk). Read for attention only.
        backward: Whether gradients flow through it.
        complexity: How FLOPs grow with N, one of :data:`COMPLEXITIES`; None declares nothing.
        memory: How allocated bytes grow with N when training; likewise.
        flops: Floating-point operations of one forward call, from a :class:`Case`.
        min_bytes: Least bytes read and written by one forward call, from a :class:`Case`.
    """

    fn: Callable[..., Any]
    supports: Callable[[Case], str | None] | None = field(default=None, kw_only=True)
    masks: MaskSupport = field(default="full", kw_only=True)
    backward: bool = field(default=True, kw_only=True)
    complexity: str | None = field(default=None, kw_only=True)
    memory: str | None = field(default=None, kw_only=True)
    flops: Callable[[Case], float] | None = field(default=None, kw_only=True)
    min_bytes: Callable[[Case], float] | None = field(default=None, kw_only=True)

    def why_not(self, case: Case) -> str | None:
        """None where this forward can run ``case``, else the reason."""
        if case.direction != "forward" and not self.backward:
            return "this forward declares that it has no backward"
        return self.supports(case) if self.supports else None


@dataclass(frozen=True)
class Identity:
    """A statement that must hold: with these options and tensors, the variant equals another.

    Each is paired with a counterpart where it must *not* hold, so that an option which is ignored
    does not pass for an identity: the same comparison under the variant's default options and
    drawn tensors, changed by ``unless``. Where it says nothing about a shape (which has no grid,
    say), any of the three functions may raise :class:`bakeoff.UnsupportedError` with the reason.

    Args:
        name: The statement, as ``"window >= N"``.
        equals: The name of the other variant, or a function with the arguments of the kind.
        options: From the shape (features, for an activation or connection) the options under
            which it holds.
        tensors: Likewise the parameters, inputs or noise under which it holds.
        unless: Likewise options under which it does not hold.

    Example:
        >>> Identity("window >= N", options=lambda shape: {"window": shape.k_len},
        ...          equals="scaled_dot_product").equals
        'scaled_dot_product'
    """

    name: str
    equals: str | Callable[..., Any] = field(kw_only=True)
    options: Callable[[Any], Mapping[str, Any]] | None = field(default=None, kw_only=True)
    tensors: Callable[[Any], Tensors] | None = field(default=None, kw_only=True)
    unless: Callable[[Any], Mapping[str, Any]] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Variant:
    """What the three kinds share. Register an Activation, an Attention or a Connection.

    Args:
        name: lower_snake_case, unique over all kinds.
        forwards: Name to :class:`Forward` or to a bare function; ``"reference"`` is the formula
            of the paper, line by line, and serves as the oracle.
        metadata: What people read, and what is declared.
        options: Plain values with their defaults; each is a keyword of every forward.
        option_values: Other values that an option may take, by its name: those under which it is
            checked. Needed where the default is a text or None, of which nobody else knows any.
        parameters: ``(shape, generator, **options) -> {name: tensor}``; an ``nn.Parameter``
            learns, a plain tensor is a buffer. ``shape`` is a :class:`Shape` for attention and
            the number of features otherwise; ``generator`` may be None for the global one.
        inputs: Likewise, for what the data or other layers give at each call.
        noise: Likewise, redrawn at each training call; None reaches the forward when evaluating.
        identities: What must hold.
        approximates: The name of the variant that this one approximates.
    """

    kind: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]]

    name: str
    forwards: Mapping[str, Forward | Callable[..., Any]] = field(kw_only=True)
    metadata: Metadata = field(kw_only=True)
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    option_values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, kw_only=True)
    parameters: Callable[..., Tensors] | None = field(default=None, kw_only=True)
    inputs: Callable[..., Tensors] | None = field(default=None, kw_only=True)
    noise: Callable[..., Tensors] | None = field(default=None, kw_only=True)
    identities: tuple[Identity, ...] = field(default=(), kw_only=True)
    approximates: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        # Only what is unambiguous is normalised here; validation, which knows the plugin, judges.
        if isinstance(self.forwards, Mapping):
            forwards = {
                name: Forward(given)
                if not isinstance(given, Forward) and callable(given)
                else given
                for name, given in self.forwards.items()
            }
            object.__setattr__(self, "forwards", FrozenMap(forwards))
        if isinstance(self.options, Mapping):
            object.__setattr__(self, "options", FrozenMap(self.options))
        if isinstance(self.option_values, Mapping):
            object.__setattr__(self, "option_values", FrozenMap(self.option_values))
        if isinstance(self.identities, (list, tuple)):
            object.__setattr__(self, "identities", tuple(self.identities))

    def forward(self, name: str) -> Forward:
        """The forward called ``name``.

        Raises:
            UnknownNameError: Where there is none; the message suggests the nearest.
        """
        forward = self.forwards.get(name)
        if not isinstance(forward, Forward):
            hint = did_you_mean(name, self.forwards)
            raise UnknownNameError(f"{self.name} has no forward {name!r}; {hint}")
        return forward

    def excluded(self, case: Case) -> str | None:
        """Why the mechanism does not allow the pattern of ``case``; None where it does."""
        allowed = self.declared("patterns")
        if case.pattern is None or allowed is None or case.pattern in allowed:
            return None
        return f"the mechanism does not allow the pattern {case.pattern}"

    def declared(self, name: str, default: Any = None) -> Any:
        """The value of a declared property, or ``default`` where none is declared."""
        return self.metadata.properties.get(name, default)

    def __repr__(self) -> str:
        # A careless plugin may have given anything; an error that shows it must not raise itself.
        known = list(self.forwards) if isinstance(self.forwards, Mapping) else self.forwards
        return f"{type(self).__name__}({self.name!r}, forwards={known})"


@dataclass(frozen=True, repr=False)
class Activation(Variant):
    """An activation, ``forward(x, **tensors_and_options) -> y``.

    x is (..., F); y is (..., F), or (..., F/2) where ``gated`` (the GLU family). See
    :class:`Variant` for the fields that all kinds share.

    Args:
        gated: Whether the output has half the features of the input.

    Example:
        >>> import torch
        >>> from bakeoff import Activation, Metadata, Paper
        >>> cube = Activation("cube", forwards={"reference": lambda x: x**3}, metadata=Metadata(
        ...     title="Cube", summary="The third power.", formula="x^3",
        ...     strengths="odd", weaknesses="explodes", use_when="Never.", tags="hidden_layer",
        ...     paper=Paper(title="None", authors=("Nobody",), year=2024)))
        >>> cube.forwards["reference"].fn(torch.tensor(2.0))
        tensor(8.)
    """

    kind: ClassVar[str] = "activation"
    arguments: ClassVar[tuple[str, ...]] = ("x",)

    gated: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, repr=False)
class Attention(Variant):
    """An attention, ``forward(q, k, v, *, mask=None, causal=False, scale=None, …) -> o``.

    q is (B, H, Nq, D); k is (B, Hkv, Nk, D); v is (B, Hkv, Nk, Dv); o is (B, H, Nq, Dv).
    ``mask`` is bool, broadcasts to (B, H, Nq, Nk), and True means *may attend*. ``causal`` with
    Nq != Nk is aligned at the lower right, as with a KV cache. A query that may attend to no key
    gets an output that does not depend on k and v. See :class:`Variant` for the shared fields.

    Args:
        grouped: Whether kv_heads may be fewer than heads.
        recurrence: ``(q, k, v, state=None, **same) -> (o, state)``, causal, for any length, with
            ``same`` as for a forward. Splitting a sequence anywhere changes neither outputs nor
            gradients nor the last state, which holds tensors in any nesting and is never changed
            in place. Of the inputs those are split with q, k and v that have at least three
            dimensions, the third of size k_len. A mask over keys, (B, 1, 1, Nk), is split too; a
            recurrence that can't obey one raises UnsupportedError with the reason.
    """

    kind: ClassVar[str] = "attention"
    arguments: ClassVar[tuple[str, ...]] = ("q", "k", "v", "mask", "causal", "scale")

    grouped: bool = field(default=False, kw_only=True)
    recurrence: Callable[..., Any] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, repr=False)
class Connection(Variant):
    """A skip connection, ``forward(x, branch, **tensors_and_options) -> y``.

    x and y are (..., F); ``branch`` is a callable (..., F) -> (..., F). See :class:`Variant` for
    the shared fields.
    """

    kind: ClassVar[str] = "connection"
    arguments: ClassVar[tuple[str, ...]] = ("x", "branch")


KINDS: Mapping[str, type[Variant]] = MappingProxyType(
    {cls.kind: cls for cls in (Activation, Attention, Connection)}
)
