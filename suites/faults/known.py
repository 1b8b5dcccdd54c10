"""The faults and traps of torch that are known, and those that it has on this machine."""

from __future__ import annotations

import torch

from bakeoff.suites.faults import trials
from bakeoff.suites.faults.fault import Diagnosis, Fault, diagnose

__all__ = ["FAULTS", "devices_here", "diagnoses"]

FAULTS = (
    Fault(
        "bfloat16_product_beyond_its_edge",
        op="matmul",
        summary="On Intel CPUs with AMX a bfloat16 product whose inner size is above 32 and no "
        "multiple of it reads beyond the edge of its left matrix.",
        consequence="What lies there, NaN or infinity, gets into the product: a right forward is "
        "called wrong in bfloat16.",
        workaround="Set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, or fill the inner size up with zeros "
        "to a multiple of 32.",
        report="https://github.com/uxlfoundation/oneDNN/issues/5717",
        trial=trials.bfloat16_product,
        unit="wrong products",
        devices=("cpu",),
        dtypes=("bfloat16",),
        checks=("non_contiguous", "extreme", "no_key"),
        environment={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    ),
    Fault(
        "causal_at_the_upper_left",
        op="scaled_dot_product_attention",
        summary="`is_causal=True` aligns queries with the first keys, not with the last.",
        consequence="With a cache of keys (Nq < Nk) the last query does not see the latest keys.",
        workaround="Pass the mask of bakeoff.allowed_keys, or "
        "torch.nn.attention.bias.causal_lower_right.",
        report="https://github.com/pytorch/pytorch/issues/108108",
        trial=trials.causal_with_a_cache,
        unit="largest error",
    ),
    Fault(
        "causal_with_a_negative_scale",
        op="scaled_dot_product_attention",
        summary="With `is_causal=True` what is hidden, −inf, is multiplied by the scale.",
        consequence="With a scale of 0 or less the output is NaN.",
        workaround="Multiply q by the scale, and pass scale=1.",
        trial=trials.causal_with_a_negative_scale,
        unit="wrong elements",
    ),
    Fault(
        "row_without_keys_is_nan",
        op="scaled_dot_product_attention",
        summary="A query that may attend to no key makes fused attention NaN.",
        consequence="One padded row makes outputs or gradients NaN.",
        workaround="Use bakeoff.masked_softmax, or let each row see one key and set its output to "
        "zero.",
        report="https://github.com/pytorch/pytorch/issues/103963",
        trial=trials.row_without_keys,
        unit="numbers that are not finite",
    ),
    Fault(
        "row_of_lowest_scores",
        op="scaled_dot_product_attention",
        summary="Where a float mask holds the lowest number for all keys of a row, the backward "
        "gives each of them the weight 1.",
        consequence="The gradients of such a row are as many times too large as it has keys.",
        workaround="Pass a mask of truth values, or of -inf.",
        trial=trials.row_of_lowest_scores,
        unit="sum of the weights",
    ),
    Fault(
        "values_of_another_size",
        op="scaled_dot_product_attention",
        summary="Where values have another size than keys, all N² scores are made and kept.",
        consequence="Memory grows as N², though the fused kernel was asked for.",
        workaround="Fill the smaller up with zeros, pass the scale, and cut the output.",
        trial=trials.values_of_another_size,
        unit="bytes kept",
    ),
    Fault(
        "fused_attention_is_not_counted",
        op="FlopCounterMode",
        summary="No FLOPs of fused attention are counted.",
        consequence="A model looks cheaper than it is. bakeoff counts them by itself.",
        workaround="Give FlopCounterMode a custom_mapping for "
        "aten._scaled_dot_product_flash_attention_for_cpu and its backward.",
        report="https://github.com/pytorch/pytorch/issues/195460",
        trial=trials.fused_attention_counted,
        unit="FLOPs",
    ),
    Fault(
        "products_are_not_counted",
        op="FlopCounterMode",
        summary="No product with a vector is counted, and none that is added in place.",
        consequence="A model looks cheaper than it is. bakeoff counts them by itself.",
        workaround="Give FlopCounterMode a custom_mapping for aten.mv, aten.dot, aten.addmm_ and "
        "aten.baddbmm_.",
        trial=trials.products_counted,
        unit="FLOPs",
    ),
    Fault(
        "no_gradient_while_counting",
        op="FlopCounterMode",
        summary="torch.autograd.grad by the input of a module fails while FLOPs are counted.",
        consequence="The FLOPs of such a backward can't be counted.",
        workaround="Call backward() in its place, or count a function that is no module.",
        report="https://github.com/pytorch/pytorch/issues/131753",
        trial=trials.gradient_of_a_module,
        unit="gradients",
    ),
    Fault(
        "flex_attention_without_a_backward",
        op="flex_attention",
        summary="FlexAttention has no backward on the CPU.",
        consequence="A forward that is built on it can't be trained there.",
        workaround="Train on a GPU; let `supports` refuse the case on the CPU.",
        report="https://github.com/pytorch/pytorch/issues/148752",
        trial=trials.flex_attention_gradient,
        unit="gradients",
        devices=("cpu",),
    ),
    Fault(
        "sixth_in_float32",
        op="hardsigmoid, hardswish",
        summary="In float64 the slope 1/6 of a kernel is the float32 nearest to it.",
        consequence="Its gradient is off by 5e-9, and a forward that calls it is called wrong.",
        workaround="Write it out: (x / 6 + 0.5).clamp(0, 1).",
        trial=trials.hard_activations,
        unit="largest error of a slope",
        dtypes=("float64",),
    ),
    Fault(
        "tanhshrink_cancels",
        op="tanhshrink",
        summary="tanh(x) is subtracted from x, which are equal to most digits near zero.",
        consequence="The relative error grows without bound towards zero.",
        workaround="Use the series x³/3 − 2x⁵/15 where x is small, or float64.",
        trial=trials.tanhshrink_near_zero,
        unit="tanhshrink(0.001)",
    ),
    Fault(
        "seeds_of_32_bits",
        op="Generator.manual_seed",
        summary="The CPU's generator uses the low 32 bits of a seed, and drops the others.",
        consequence="Seeds that differ by a multiple of 2³² draw the same numbers.",
        workaround="Keep seeds below 2³².",
        trial=trials.equal_numbers_of_two_seeds,
        unit="equal numbers of 8",
        devices=("cpu",),
    ),
)


def devices_here() -> tuple[str, ...]:
    """The kinds of devices that torch can use on this machine."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def diagnoses() -> list[Diagnosis]:
    """Every known fault, tried on every device of this machine."""
    return diagnose(FAULTS, devices_here())
