"""For each claim of the textbook a variant that breaks it: the claim must then not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bakeoff import Activation, Attention, Connection, Metadata

__all__ = ["COUNTERFEITS", "activation", "attention", "connection", "metadata"]


def metadata(**properties: Any) -> Metadata:
    """The least that a variant must say of itself."""
    return Metadata(
        title="Counterfeit",
        summary="It breaks a claim.",
        formula="none",
        strengths="none",
        weaknesses="none",
        use_when="Never.",
        tags="hidden_layer",
        properties=properties,
    )


def activation(fn: Callable[..., Any], **fields: Any) -> Activation:
    """A counterfeit activation, x -> fn(x)."""
    return Activation("counterfeit", forwards={"reference": fn}, metadata=metadata(), **fields)


def attention(fn: Callable[..., Any], **fields: Any) -> Attention:
    """A counterfeit attention, with the arguments of a forward."""
    return Attention("counterfeit", forwards={"reference": fn}, metadata=metadata(), **fields)


def connection(fn: Callable[..., Any], **fields: Any) -> Connection:
    """A counterfeit connection, (x, branch) -> fn(x, branch)."""
    return Connection("counterfeit", forwards={"reference": fn}, metadata=metadata(), **fields)


#: Claim to role to the counterfeit in that role, or the name of a registered variant that can't
#: play it.
COUNTERFEITS: Mapping[str, Mapping[str, Activation | Attention | Connection | str]] = {
    "linear_stack": {"linear": activation(lambda x: x + 0.1 * x.tanh())},
}
