"""What the measure of a claim is given: variants by role, a seed, and how large it may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

from bakeoff.registry.catalog import Catalog
from bakeoff.registry.module import VariantModule, module
from bakeoff.registry.shapes import Shape
from bakeoff.registry.variants import Variant

__all__ = ["Experiment"]

T = TypeVar("T")


@dataclass(frozen=True)
class Experiment:
    """One seed of a claim.

    Args:
        catalog: Where the variants come from.
        roles: Role to name of a variant.
        seed: Of everything that is drawn; the global generator is seeded with it too.
        scale: One of :data:`bakeoff.suites.claims.claim.SCALES`.
        device: Where it runs.
        alive: To be called now and then by what takes longer than a minute, since a cell without
            a sign of life is stopped.
        kept: What :meth:`once` made, shared by all seeds.
    """

    catalog: Catalog
    roles: Mapping[str, str]
    seed: int = 0
    scale: str = "quick"
    device: str = "cpu"
    alive: Callable[[], None] = lambda: None
    kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def variant(self, role: str) -> Variant:
        """The variant that plays ``role``."""
        return self.catalog[self.roles[role]]

    def at_scale(self, quick: T, standard: T, full: T | None = None) -> T:
        """The value for the scale of this experiment; ``full`` is ``standard`` where not given."""
        wanted = {"quick": quick, "standard": standard, "full": full}[self.scale]
        return standard if wanted is None else wanted

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` returns, made for the first seed and kept for the others: what is dear and
        does not depend on the seed, as a data set or compiled code.
        """
        if name not in self.kept:
            self.kept[name] = make()
        found: T = self.kept[name]
        return found

    def generator(self, stream: int = 0) -> torch.Generator:
        """A fresh generator: equal streams are equal for all variants, so that they are paired.

        Seed and stream are mixed into the 32 bits of a seed that torch's generator reads.
        """
        mixed = np.random.SeedSequence((self.seed, stream)).generate_state(1)
        return torch.Generator().manual_seed(int(mixed[0]))

    def normal(
        self, *size: int, stream: int = 0, dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        """Standard normal numbers of this size, on the device."""
        drawn = torch.randn(*size, generator=self.generator(stream), dtype=dtype)
        return drawn.to(self.device)

    def module(
        self,
        role: str,
        shape: Shape | int,
        *,
        forward: str = "reference",
        options: Mapping[str, Any] | None = None,
        stream: int = 0,
    ) -> VariantModule:
        """The variant of ``role`` as a module, see :func:`bakeoff.module`."""
        made = module(
            self.variant(role),
            shape,
            forward=forward,
            options=options,
            generator=self.generator(stream),
        )
        return made.to(self.device)
