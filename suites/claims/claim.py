"""What a claim is: a statement, the variants that it is about, and the numbers that decide it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.errors import UnknownNameError, UsageError, did_you_mean, typed
from bakeoff.registry.frozen import FrozenMap
from bakeoff.suites.contributions import brought, chosen

if TYPE_CHECKING:
    from bakeoff.suites.claims.experiment import Experiment

    Measure = Callable[[Experiment], Mapping[str, float]]

__all__ = ["CLAIM", "SCALES", "Claim", "Criterion", "claims_of"]

#: Stands where a variant's name does in the cell of a claim; no variant can be called so.
CLAIM = "(claim)"
#: How large an experiment may be: named as the presets are.
SCALES = ("quick", "standard", "full")


@dataclass(frozen=True)
class Criterion:
    """One number of a claim, and the bound that it must keep, stated before it is measured.

    With both bounds it must lie between them: the margin of an equivalence test.

    Args:
        name: lower_snake_case; the metric under which it is stored.
        says: What the number is, in a few words.
        above: The lower bound.
        below: The upper bound.
        unit: ``"s"``, … ; empty for a pure number.
        log: Whether it is a ratio: its mean is geometric, and its interval that of the logarithms.
        timed: Whether it is made of times, so that it needs the machine for itself and speaks of
            this machine alone.

    Raises:
        UsageError: For a criterion that can decide nothing.

    Example:
        >>> Criterion("grad_norm_ratio", "first layer ÷ last", below=0.01).bound
        '< 0.01'
        >>> Criterion("difference", "with and without", above=-0.1, below=0.1).bound
        'in (-0.1, 0.1)'
    """

    name: str
    says: str
    above: float | None = field(default=None, kw_only=True)
    below: float | None = field(default=None, kw_only=True)
    unit: str = field(default="", kw_only=True)
    log: bool = field(default=False, kw_only=True)
    timed: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _require_name(f"criterion {self.name!r}: name", self.name)
        for what in ("says", "unit"):
            if not isinstance(getattr(self, what), str):
                got = typed(getattr(self, what))
                raise UsageError(f"criterion {self.name}: {what}: got {got}, expected a text")
        bounds = [bound for bound in (self.above, self.below) if bound is not None]
        if not bounds:
            raise UsageError(f"criterion {self.name}: got no bound, expected above, below or both")
        for bound in bounds:
            if not isinstance(bound, (int, float)) or not math.isfinite(bound):
                raise UsageError(
                    f"criterion {self.name}: got the bound {typed(bound)}, expected a finite number"
                )
            if self.log and bound <= 0:
                raise UsageError(
                    f"criterion {self.name}: got the bound {bound:g}, expected a positive one, "
                    "since log=True says that it is a ratio"
                )
        if len(bounds) == 2 and bounds[0] >= bounds[1]:
            raise UsageError(
                f"criterion {self.name}: got above={self.above:g} and below={self.below:g}, "
                "expected above < below"
            )

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.above is None:
            return f"< {self.below:g}"
        return f"> {self.above:g}" if self.below is None else f"in ({self.above:g}, {self.below:g})"


@dataclass(frozen=True)
class Claim:
    """A statement that is put to the test.

    Args:
        name: lower_snake_case, unique.
        statement: What is claimed, in a sentence.
        source: Who says so: the paper and the section.
        roles: The variants that it is about, each under the role that it plays, so that a test
            can put a counterfeit there.
        criteria: What must hold of the numbers; the claim holds where all do.
        measure: ``(experiment) -> {criterion: number}``, called once a seed: the interval of a
            criterion is that of the mean over seeds. What is compared is compared within a seed.
        count: Likewise for what is exact (counted, or the same for every seed), called once.
        number: Its place in the textbook; None for a plugin's own, which stand after.
        needs: Packages that it imports, as pip knows them; without one it is unsupported.

    Raises:
        UsageError: For a claim that can't be judged.

    Example:
        >>> def largest(experiment):
        ...     negative = -experiment.normal(4).abs()
        ...     return {"largest": float(experiment.module("rectifier", 4)(negative).max())}
        >>> claim = Claim(
        ...     "relu_is_zero", "ReLU gives zero below zero.", "Nair and Hinton 2010",
        ...     roles={"rectifier": "relu"},
        ...     criteria=(Criterion("largest", "of what is below zero", below=1e-9),),
        ...     count=largest,
        ... )
        >>> claim.with_roles(rectifier="sigmoid").roles["rectifier"]
        'sigmoid'
    """

    name: str
    statement: str
    source: str
    roles: Mapping[str, str] = field(kw_only=True)
    criteria: tuple[Criterion, ...] = field(kw_only=True)
    measure: Measure | None = field(default=None, kw_only=True)
    count: Measure | None = field(default=None, kw_only=True)
    number: int | None = field(default=None, kw_only=True)
    needs: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        _require_name("claim: name", self.name)
        where = f"claim {self.name}"
        for what in ("statement", "source"):
            text = getattr(self, what)
            if not isinstance(text, str) or not text.strip():
                raise UsageError(f"{where}: {what}: got {typed(text)}, expected a text")
        roles = self.roles
        if not isinstance(roles, Mapping) or not all(isinstance(n, str) for n in roles.values()):
            raise UsageError(f"{where}: roles: got {typed(roles)}, expected names of variants")
        object.__setattr__(self, "roles", FrozenMap(roles))
        criteria = self.criteria
        if not isinstance(criteria, (tuple, list)) or not criteria:
            raise UsageError(f"{where}: criteria: got {typed(criteria)}, expected at least one")
        for criterion in criteria:
            if not isinstance(criterion, Criterion):
                raise UsageError(f"{where}: criteria: got {typed(criterion)}, expected a Criterion")
        object.__setattr__(self, "criteria", tuple(criteria))
        names = [criterion.name for criterion in criteria]
        if len(set(names)) < len(names):
            raise UsageError(f"{where}: criteria: got {names}, expected names not used twice")
        functions = [fn for fn in (self.measure, self.count) if fn is not None]
        if not functions or not all(callable(fn) for fn in functions):
            raise UsageError(
                f"{where}: got measure={self.measure!r} and count={self.count!r}, expected a "
                "function of an experiment in one of them or in both"
            )

    @property
    def timed(self) -> bool:
        """Whether a criterion is."""
        return any(criterion.timed for criterion in self.criteria)

    def with_roles(self, **roles: str) -> Claim:
        """The same claim about other variants.

        Raises:
            UnknownNameError: For a role that it has not.
        """
        for role in roles:
            if role not in self.roles:
                hint = did_you_mean(role, self.roles)
                raise UnknownNameError(f"the claim {self.name} has no role {role!r}; {hint}")
        return replace(self, roles={**self.roles, **roles})


def claims_of(catalog: Catalog, names: Iterable[str] = ()) -> dict[str, Claim]:
    """The claims that the plugins bring, all of them or those of ``names``; the textbook's first.

    Raises:
        BakeoffError: Where a plugin returns what is no claim, or two share a name.
        UnknownNameError: For a name that no claim has.
    """
    found = brought(catalog, "bakeoff_claims", Claim)
    ordered = sorted(found.values(), key=lambda c: math.inf if c.number is None else c.number)
    return chosen({claim.name: claim for claim in ordered}, names, "claim")


def _require_name(where: str, name: object) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name != name.lower():
        raise UsageError(f"{where}: got {typed(name)}, expected lower_snake_case")
