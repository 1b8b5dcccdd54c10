"""What the metrics of gradient flow mean."""

from __future__ import annotations

from collections.abc import Mapping

from bakeoff.suites.metrics import Metric

__all__ = ["METRICS"]


def _drawn(meaning: str) -> Metric:
    return Metric(meaning, varies="seed")


METRICS: Mapping[str, Metric] = {
    "second_moment": Metric("E[φ(z)²] for z ~ N(0, 1), by quadrature."),
    "gain": Metric("1/√E[φ²]: weights of this gain keep the second moment at 1."),
    "gain_of_deviation": Metric("1/std φ(z): weights of this gain keep the variance at 1."),
    "torch_gain": Metric("What torch's calculate_gain gives."),
    "critical_weight_variance": Metric("σ_w² on the edge of chaos, where χ = 1."),
    "critical_bias_variance": Metric("σ_b² there."),
    "critical_fixed_point": Metric("The variance of the pre-activations that it keeps."),
    "chi_theory": Metric("χ = σ_w² E[φ′²] at the fixed point, by quadrature."),
    "chi": _drawn("By how much a layer multiplies the squared norm of a gradient."),
    "grad_norm_ratio": _drawn("The norm of the gradient at the first layer ÷ at the last."),
    "grad_norm_exponent": _drawn("Its logarithm for each layer: positive grows backwards."),
    "grad_norm": _drawn("The norm of the gradient, of the last layer; the remark has each."),
    "activation_mean": _drawn("The mean of the activations, of the last layer."),
    "activation_variance": _drawn("Their variance, of the last layer."),
    "pre_activation_variance": _drawn("The variance before the activation, of the last layer."),
    "q_map_ratio": _drawn("That variance ÷ what the variance map says."),
    "dead_fraction": _drawn("The share of units that are zero on all data."),
    "dead_fraction_trained": _drawn("The same after some steps of training."),
    "saturated_fraction": _drawn("The share of units whose slope is far below the steepest."),
    "jacobian_largest": _drawn("The largest squared singular value from input to output."),
    "jacobian_smallest": _drawn("The smallest."),
    "jacobian_mean": _drawn("Their mean."),
    "jacobian_variance": _drawn("Their variance."),
    "rank_residual": _drawn("How far the rows are from being all alike, as a share of them."),
    "attention_entropy": _drawn("The mean entropy of the weights of a query, in nats."),
    "grad_to_q": _drawn("The norm of the gradient that reaches the queries."),
    "grad_to_k": _drawn("The norm of the gradient that reaches the keys."),
    "grad_to_v": _drawn("The norm of the gradient that reaches the values."),
    "grad_to_q_exponent": _drawn("How it changes with N: the exponent."),
    "grad_to_k_exponent": _drawn("How it changes with N: the exponent."),
    "grad_to_v_exponent": _drawn("How it changes with N: the exponent."),
}
