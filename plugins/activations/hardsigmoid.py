"""Hard sigmoid (Howard et al., 2019, section 5.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Case, Forward, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """min(max(0, x + 3), 6) / 6."""
    line = x / 6 + 0.5
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.where(x <= -3, zero, torch.where(x >= 3, one, line))


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return F.hardsigmoid(x)


def exact_enough(case: Case) -> str | None:
    """None but in float64, for which the 1/6 in torch's kernels is a float32.

    The CPU's forward is the exception: it divides by 6.
    """
    if case.dtype == "float64" and (case.direction != "forward" or case.device != "cpu"):
        return "torch's kernel rounds 1/6 to float32"
    return None


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Hard sigmoid."""
    yield Activation(
        "hardsigmoid",
        forwards={"reference": reference, "torch": Forward(fused, supports=exact_enough)},
        approximates="sigmoid",
        metadata=Metadata(
            title="Hard sigmoid",
            summary="Sigmoid in three straight pieces.",
            formula=r"\phi(x) = \frac{\min(\max(0, x + 3), 6)}{6}",
            strengths=("no exponential",),
            weaknesses=("no gradient beyond ±3",),
            use_when="Gates of mobile networks.",
            tags=("saturating", "mobile"),
            paper=Paper(
                title="Searching for MobileNetV3",
                authors=(
                    "Andrew Howard",
                    "Mark Sandler",
                    "Grace Chu",
                    "Liang-Chieh Chen",
                    "Bo Chen",
                    "Mingxing Tan",
                    "Weijun Wang",
                    "Yukun Zhu",
                    "Ruoming Pang",
                    "Vijay Vasudevan",
                    "Quoc V. Le",
                    "Hartwig Adam",
                ),
                year=2019,
                url="https://arxiv.org/abs/1905.02244",
            ),
            properties={
                "elementwise": True,
                "smooth": False,
                "monotonic": True,
                "range": (0.0, 1.0),
                "zero_centred": False,
            },
        ),
    )
