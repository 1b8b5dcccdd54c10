"""What a variant says about itself: text, paper, tags and declared properties."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from bakeoff.registry.frozen import FrozenMap

__all__ = ["CONTROL", "PROPERTIES", "SECTIONS", "TAGS", "Metadata", "Paper"]

#: What is said of a variant that is a control.
CONTROL = "A control: it is there to be compared with, shown and never ranked."
#: Every known tag, grouped by the question that it answers.
TAGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "how it scores": (
            "additive",
            "bilinear",
            "dot_product",
            "kernel",
            "location",
            "soft",
            "hard",
        ),
        "what it sees": ("self", "cross", "global", "local", "sparse", "hierarchical"),
        "architecture": (
            "multi_head",
            "learnable",
            "memory",
            "low_rank",
            "dynamic",
            "efficient",
            "recurrent",
            "hybrid",
            "positional",
            "gated",
            "normalising",
            "saturating",
            "rectifier",
            "skip",
            "norm",
        ),
        "application": (
            "hidden_layer",
            "output_layer",
            "language",
            "vision",
            "multimodal",
            "detection",
            "translation",
            "long_context",
            "mobile",
            "very_deep",
        ),
        "where it comes from": ("peer",),  # an adapter to another library
    }
)

#: The sections of the textbook, in its order: each variant stands in one, or in none.
SECTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "activation": (),
        "attention": (
            "scoring",  # additive, dot-product, multi-head
            "scope",  # self, cross, global, local
            "soft and hard",
            "sparse",
            "memory-augmented",
            "low-rank",
            "dynamic",
            "efficient",
            "hierarchical",
            "hybrid",
            "beyond the textbook",
        ),
        "connection": ("skip connections",),
    }
)

#: Every property that a kind may declare, with the type of its value. What is declared is measured.
PROPERTIES: Mapping[str, Mapping[str, type]] = MappingProxyType(
    {
        "activation": MappingProxyType(
            {
                "elementwise": bool,  # y_i depends on x_i alone
                "smooth": bool,  # continuously differentiable
                "monotonic": bool,  # non-decreasing
                "range": tuple,  # (infimum, supremum) of the outputs
                "zero_centred": bool,  # E[phi(z)] = 0 for z ~ N(0, 1)
            }
        ),
        "attention": MappingProxyType(
            {
                "row_stochastic": bool,  # o is a convex combination of the rows of v
                "patterns": tuple,  # the patterns that the mechanism allows
                "stochastic": bool,  # draws noise when training
                "differentiable": bool,  # its gradient is the derivative of its output
                "mixes_queries": bool,  # without causality an output depends on other queries too
                "relative": bool,  # only distances count: shifting all positions changes nothing
            }
        ),
        "connection": MappingProxyType(
            {
                "stochastic": bool,
                "differentiable": bool,
                "identity_path": bool,  # a branch that returns zero gives back x
                "branch_calls": int,  # how often a call of it calls its branch; without it, once
            }
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """The source of a variant.

    Example:
        >>> print(Paper(title="Searching for Activation Functions", year=2017,
        ...             authors=("Prajit Ramachandran", "Barret Zoph", "Quoc V. Le"),
        ...             url="https://arxiv.org/abs/1710.05941").bibtex)
        @misc{ramachandran2017searching,
          title  = {{Searching for Activation Functions}},
          author = {Prajit Ramachandran and Barret Zoph and Quoc V. Le},
          year   = {2017},
          url    = {https://arxiv.org/abs/1710.05941},
        }
    """

    title: str
    authors: tuple[str, ...]
    year: int
    url: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "authors", _as_tuple(self.authors))

    @property
    def key(self) -> str:
        """The BibTeX key: first author's surname, year, first long word of the title."""
        surname = self.authors[0].split()[-1] if self.authors else "anonymous"
        word = next((w for w in re.findall(r"\w+", self.title) if len(w) > 3), "")
        return re.sub(r"\W", "", f"{surname}{self.year}{word}".lower())

    @property
    def bibtex(self) -> str:
        """The entry for a bibliography; the title keeps its capitals."""
        fields = {
            "title": f"{{{self.title}}}",
            "author": " and ".join(self.authors),
            "year": str(self.year),
            "url": self.url,
        }
        lines = [f"  {name:<6} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@misc{{{self.key},", *lines, "}"])

    def __str__(self) -> str:
        who = self.authors[0].split()[-1] if self.authors else "anonymous"
        more = " et al." if len(self.authors) > 1 else ""
        return f"{who}{more} ({self.year}), {self.title}"


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What people read about a variant, and what it declares.

    Args:
        title: The name in prose, as in ``"Scaled dot-product attention"``.
        summary: One sentence.
        formula: LaTeX, without the dollar signs.
        strengths: Short phrases; one string counts as one phrase.
        weaknesses: Likewise.
        use_when: One sentence: the scene in which to take this variant.
        tags: Names from :data:`TAGS`.
        section: Where the textbook treats it, from :data:`SECTIONS` of the kind; empty for none.
        paper: Where it was first described; None for what is not published yet.
        properties: Names from :data:`PROPERTIES` of the kind; each is measured.
        unused: Arguments of the kind that this variant has no use for, such as ``scale``.
        aliases: Other names under which the catalog finds it.
        control: Whether it is there to be compared with and computes nothing, as the identity does:
            reports show it and never rank it.
    """

    title: str
    summary: str
    formula: str
    strengths: tuple[str, ...]
    weaknesses: tuple[str, ...]
    use_when: str
    tags: tuple[str, ...]
    section: str = ""
    paper: Paper | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    control: bool = False

    def __post_init__(self) -> None:
        for name in ("strengths", "weaknesses", "tags", "unused", "aliases"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name)))
        if isinstance(self.properties, Mapping):
            object.__setattr__(self, "properties", FrozenMap(self.properties))


def _as_tuple(value: Any) -> Any:
    """One string is one phrase, not a sequence of letters; validation judges the rest."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(value, key=str))  # the order of a set changes from process to process
    return tuple(value) if isinstance(value, (list, tuple)) else value
