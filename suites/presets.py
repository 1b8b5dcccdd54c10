"""The presets: for each the axes of every suite, and what single suites change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bakeoff.registry.shapes import PATTERNS
from bakeoff.suites.grids import NO_GRID

__all__ = ["PRESETS"]

_ACCURACY = {
    "patterns": tuple(PATTERNS),
    "grids": (NO_GRID, "square", "pyramid"),
    "batches": (2,),
    "heads": (2,),
    "head_dims": (32,),
    "features": (64,),
    "dtypes": ("float32", "bfloat16"),
}

_DEEP = {
    "draws": 10,
    "depths": (2, 4, 8, 16, 32, 64),
    "initialisations": ("he", "xavier", "orthogonal", "critical", "critical_orthogonal"),
}
#: Runs of a task that learns: few, but enough for an interval.
_SEEDS = (0, 1, 2)
#: A handful that is trained in every model in two minutes.
_TRAINED = (
    "linear_attention",
    "sigmoid_attention",
    "sigmoid",
    "rezero",
)
#: What the certificate of one variant takes: every pattern and dtype at one small size, and a
#: covering array of all others.
_CHECK: Mapping[str, Mapping[str, Any]] = {
    "": {"seq_lens": (96,)},
    "accuracy": {**_ACCURACY, "covering": ("float32", "bfloat16", "float16", "float64")},
    "gradient": {**_ACCURACY, "patterns": ("self", "causal_self", "causal_cross")},
    "scaling": {
        "patterns": ("self", "causal_self"),
        "grids": (NO_GRID,),
        "heads": (1,),
        "head_dims": (32,),
    },
}

#: For each preset the axes of every suite ("") and what single suites change.
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "quick": {
        "": {"seq_lens": (128, 512), "budget": 1.5},
        "accuracy": {
            **_ACCURACY,
            "seq_lens": (96,),
            # A probe looks at cross; only causal_cross tells how causal is aligned.
            "patterns": ("self", "causal_self", "causal_cross"),
        },
        "gradient": {
            **_ACCURACY,
            "seq_lens": (96,),
            "patterns": ("self", "causal_self"),
            "dtypes": ("float32",),
            "draws": 3,
            "depths": (4, 16),
        },
        "applications": {"variants": _TRAINED, "seeds": (0, 1, 2)},
        "claims": {"scale": "quick", "seeds": tuple(range(5))},
        "learning": {"tasks": ("mqar",), "steps": 400, "seeds": _SEEDS, "per_section": True},
        "memory": {"patterns": ("self",)},
        "scaling": {
            "seq_lens": (64, 128, 256, 512),
            "heads": (2,),
            "patterns": ("self",),
            "directions": ("forward",),
        },
        "speed": {"patterns": ("self",)},
    },
    "standard": {
        "": {
            "seq_lens": (128, 512, 2048),
            "patterns": ("self", "causal_self", "decode"),
            "features": (256, 1024),
            "budget": 10.0,
        },
        "accuracy": {**_ACCURACY, "seq_lens": (64, 257), "inputs": ("normal", "peaked")},
        "applications": {"seeds": (0, 1, 2), "effort": 4.0},
        "claims": {"scale": "standard", "seeds": tuple(range(10))},
        "gradient": {**_ACCURACY, **_DEEP, "seq_lens": (64, 257)},
        "learning": {"seeds": _SEEDS},
        "scaling": {"seq_lens": (256, 512, 1024, 2048), "patterns": ("self", "causal_self")},
    },
    "full": {
        "": {
            "seq_lens": (128, 256, 512, 1024, 2048, 4096, 8192, 16384),
            "patterns": tuple(PATTERNS),
            "features": (256, 1024, 4096),
            "dtypes": ("float32", "bfloat16"),
            "modes": ("eager", "compiled"),
            "budget": 60.0,
        },
        "accuracy": {
            **_ACCURACY,
            "seq_lens": (64, 257, 1024),
            "dtypes": ("float32", "bfloat16", "float16", "float64"),
            "inputs": ("normal", "peaked"),
        },
        "gradient": {
            **_ACCURACY,
            **_DEEP,
            "seq_lens": (64, 257),
            "dtypes": ("float32", "bfloat16", "float16", "float64"),
        },
        "applications": {"dtypes": ("float32",), "seeds": (0, 1, 2, 3, 4), "effort": 10.0},
        "claims": {"scale": "full", "seeds": tuple(range(20))},
        "learning": {"seeds": tuple(range(5)), "dtypes": ("float32",), "modes": ("eager",)},
        "memory": {"modes": ("eager",)},
        "scaling": {"patterns": ("self", "causal_self"), "modes": ("eager",)},
        "speed": {"directions": ("forward", "backward", "training")},
    },
    "check": _CHECK,
}
