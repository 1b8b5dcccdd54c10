"""Gaussian expectations of an elementwise activation, by quadrature.

With z ~ N(0, 1) and a pre-activation of variance q, mean-field theory needs E[φ(√q z)],
E[φ(√q z)²] and E[φ'(√q z)²] (Poole et al., 2016, equations 3 and 4; Schoenholz et al., 2017,
section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bakeoff.registry.errors import BakeoffError, UnsupportedError, typed
from bakeoff.registry.module import module
from bakeoff.registry.variants import Activation, Variant

__all__ = ["Curve", "Moments", "curve_of", "moments", "steepest"]

Array = NDArray[np.float64]

#: The normal density beyond is below 1e-32.
FARTHEST = 12
#: Activations have their kinks at integers, nearly always: panels end there.
KINKS = 8
TOLERANCE = 1e-11


@dataclass(frozen=True)
class Curve:
    """An elementwise activation as a function of one number.

    Args:
        name: What errors call it.
        fn: Tensors (n, 1) to tensors (n, 1), in float64.
    """

    name: str
    fn: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """φ(x) and φ'(x), both in the shape of x; the slope comes from autograd."""
        leaf = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64)).reshape(-1, 1)
        leaf = leaf.requires_grad_()
        with torch.enable_grad():
            y = self.fn(leaf)
            slope = torch.zeros_like(leaf)
            if y.requires_grad:
                (slope,) = torch.autograd.grad(y.sum(), leaf)
        shape = np.shape(x)
        return y.detach().numpy().reshape(shape), slope.numpy().reshape(shape)


@dataclass(frozen=True)
class Moments:
    """Expectations over x ~ N(0, q).

    Args:
        variance: q.
        mean: E[φ(x)].
        second: E[φ(x)²].
        slope: E[φ'(x)²].
        growth: d E[φ(x)²] / dq = E[φ(x) φ'(x) x] / q.
    """

    variance: float
    mean: float
    second: float
    slope: float
    growth: float

    @property
    def deviation(self) -> float:
        """The standard deviation of φ(x)."""
        return math.sqrt(max(0.0, self.second - self.mean**2))


def curve_of(
    activation: Variant | Callable[[torch.Tensor], torch.Tensor],
    options: Mapping[str, Any] | None = None,
) -> Curve:
    """The curve of an activation, its parameters at their initial values.

    Args:
        activation: An elementwise activation, or any function of a tensor that acts on each
            element alone.
        options: Options that differ from their defaults.

    Raises:
        UnsupportedError: For a variant that is no elementwise activation.
        UnknownNameError: For an option that the variant does not have.

    Example:
        >>> import bakeoff
        >>> curve = curve_of(bakeoff.load()["leaky_relu"])
        >>> curve(np.array([-1.0, 2.0]))
        (array([-0.01,  2.  ]), array([0.01, 1.  ]))
    """
    if not isinstance(activation, Variant):
        if not callable(activation):
            raise UnsupportedError(f"got {typed(activation)}, expected an activation or a function")
        return Curve(getattr(activation, "__name__", "activation"), activation)
    if not isinstance(activation, Activation):
        raise UnsupportedError(f"{activation.name}: it is no activation, but of kind "
                               f"{activation.kind}")  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    bound = module(activation, 2, options=options, generator=generator).double().eval()
    if activation.gated or not _is_elementwise(bound):
        raise UnsupportedError(
            f"{activation.name}: it is not elementwise: an output depends on several inputs, so "
            "that no expectation over one number describes it"
        )
    single = module(activation, 1, options=options, generator=generator.manual_seed(0))
    return Curve(activation.name, single.double().eval())


def _is_elementwise(fn: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether the first of two features stays as it is while the second moves."""
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    with torch.no_grad():
        before, after = (fn(torch.stack([x, other], -1)) for other in (x.flip(0), x + 1))
    return before.shape == (50, 2) and torch.equal(before[:, 0], after[:, 0])


@lru_cache(maxsize=4096)
def moments(curve: Curve, variance: float = 1.0) -> Moments:
    """Expectations over x ~ N(0, ``variance``), each to a relative 1e-9 or so.

    The line is cut where kinks may be, and all pieces are integrated together by an adaptive
    Gauss-Kronrod rule, so that a kink elsewhere is found.

    Raises:
        BakeoffError: Where an expectation is not finite or does not converge.

    Example:
        >>> found = moments(curve_of(torch.relu))
        >>> round(found.second, 9), round(found.slope, 9)
        (0.5, 0.5)
    """
    from scipy import integrate  # takes a third of a second to import

    if not variance > 0 or not math.isfinite(variance):
        raise BakeoffError(f"variance: got {variance!r}, expected a positive number")
    root = math.sqrt(variance)
    kinks = np.arange(-KINKS, KINKS + 1) / root
    edges = np.union1d(np.arange(-FARTHEST, FARTHEST + 1), kinks[np.abs(kinks) < FARTHEST])
    left, width = edges[:-1], np.diff(edges)

    def integrand(t: float) -> Array:
        z = left + t * width
        y, slope = curve(root * z)
        density = width * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        return np.concatenate([y, y**2, slope**2, y * slope * z / root]) * np.tile(density, 4)

    with np.errstate(all="ignore"):
        panels, _, info = integrate.quad_vec(
            integrand, 0, 1, epsabs=TOLERANCE * min(1.0, variance), epsrel=TOLERANCE, norm="max",
            full_output=True,
        )  # fmt: skip
    by_panel = panels.reshape(4, -1)
    sums = by_panel.sum(1)
    outermost = np.abs(by_panel[:, [0, -1]]).max(1)  # where nothing may be left
    cut_off = (outermost > 1e-9 * np.abs(by_panel).sum(1)).any()
    if not info.success or cut_off or not np.isfinite(sums).all():
        raise UnsupportedError(
            f"{curve.name}: its expectations over N(0, {variance:.3g}) do not converge: "
            f"got {', '.join(f'{value:.3g}' for value in sums)}"
        )
    return Moments(variance, *(float(value) for value in sums))


@lru_cache
def steepest(curve: Curve) -> float:
    """The supremum of |φ'|, infinite where the slope still grows at ±100.

    Example:
        >>> round(steepest(curve_of(torch.sigmoid)), 6), steepest(curve_of(torch.square))
        (0.25, inf)
    """
    x = np.concatenate([np.linspace(-100, 100, 20_001), np.linspace(-8, 8, 16_001)])
    slopes = np.abs(curve(x)[1])
    largest = float(slopes.max())
    if largest > 1.5 * float(slopes[np.abs(x) <= 50].max()):
        return math.inf
    around = float(x[slopes.argmax()])
    finer = np.concatenate([around + np.linspace(-step, step, 2001) for step in (1e-2, 1e-4)])
    return max(largest, float(np.abs(curve(finer)[1]).max()))
