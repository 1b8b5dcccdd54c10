"""Hard swish (Howard et al., 2019, section 5.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from bakeoff import Activation, Case, Forward, Metadata, Paper, hookimpl


def reference(x: torch.Tensor) -> torch.Tensor:
    """x min(max(0, x + 3), 6) / 6."""
    gate = torch.where(x >= 3, torch.ones_like(x), x / 6 + 0.5)
    return torch.where(x <= -3, torch.zeros_like(x), x * gate)


def fused(x: torch.Tensor) -> torch.Tensor:
    """torch's kernel."""
    return F.hardswish(x)


def exact_enough(case: Case) -> str | None:
    """None but for float64 beyond the CPU, where the 1/6 in torch's kernel is a float32."""
    if case.dtype == "float64" and case.device != "cpu":
        return "torch's kernel rounds 1/6 to float32"
    return None


@hookimpl
def bakeoff_variants() -> Iterable[Activation]:
    """Hard swish."""
    yield Activation(
        "hardswish",
        forwards={"reference": reference, "torch": Forward(fused, supports=exact_enough)},
        approximates="silu",
        metadata=Metadata(
            title="Hard swish",
            summary="SiLU with a hard sigmoid for its gate.",
            formula=r"\phi(x) = x\,\frac{\min(\max(0, x + 3), 6)}{6}",
            strengths=("nearly SiLU without an exponential",),
            weaknesses=("kinks at ±3", "no gradient below −3"),
            use_when="Mobile networks.",
            tags=("hidden_layer", "vision", "mobile"),
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
                "monotonic": False,
                "range": (-0.375, float("inf")),
                "zero_centred": False,
            },
        ),
    )
