"""Tiny networks around one attention: questions are put to a list of facts."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from bakeoff.registry.shapes import Shape
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.training import SideBySide

__all__ = ["Reader", "best_error", "relative_error"]


class Reader(nn.Module):
    """o = W_o Attention(W_q question, W_k facts, W_v facts), with one query a question.

    All maps are normal with variance 1 / fan-in, so that inputs of variance 1 give queries and keys
    of variance 1.

    Args:
        experiment: Whose seed draws the maps.
        role: Of the attention.
        question: Features of a question.
        fact: Features of a fact.
        answer: Features of an answer.
        head_dim: Size of a head's queries and keys.
        value_dim: Size of a head's values.
        heads: Number of heads.
        **options: Of the variant.
    """

    def __init__(
        self,
        experiment: Experiment,
        role: str,
        *,
        question: int,
        fact: int,
        answer: int,
        head_dim: int,
        value_dim: int,
        heads: int = 1,
        **options: int,
    ) -> None:
        super().__init__()
        self.heads = heads

        def linear(inputs: int, outputs: int, stream: int) -> nn.Parameter:
            drawn = experiment.normal(inputs, outputs, stream=stream)
            return nn.Parameter(drawn / math.sqrt(inputs))

        self.w_question = linear(question, heads * head_dim, 500)
        self.w_key = linear(fact, heads * head_dim, 501)
        self.w_value = linear(fact, heads * value_dim, 502)
        self.w_answer = linear(heads * value_dim, answer, 503)
        shape = Shape(1, heads, heads, 1, 1, head_dim, value_dim)
        self.attention = experiment.module(role, shape, options=options, stream=504)

    def forward(
        self, question: torch.Tensor, facts: torch.Tensor, **given: torch.Tensor
    ) -> torch.Tensor:
        """(n, Fq), (n, N, Ff) -> (n, answer); ``given`` is for inputs of the variant's own."""
        q = self.split(question[:, None] @ self.w_question)
        k, v = self.split(facts @ self.w_key), self.split(facts @ self.w_value)
        read: torch.Tensor = self.attention(q, k, v, **given)  # (n, H, 1, Dv)
        return read.flatten(1) @ self.w_answer

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(n, N, H·D) -> (n, H, N, D)."""
        return x.reshape(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(1, 2)


def relative_error(answers: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """E|answer − target|² / E|target|² of each run, (runs,)."""
    return (answers - target).square().flatten(1).sum(1) / target.square().sum()


def best_error(
    readers: SideBySide, batch: Callable[[int], tuple[torch.Tensor, ...]], size: int = 2048
) -> float:
    """The error on fresh data of the run that has the least on other fresh data."""
    with torch.no_grad():
        validation, test = (
            relative_error(readers(*tensors), target)
            for *tensors, target in (batch(size) for _ in range(2))
        )
    return float(test[validation.nan_to_num(math.inf).argmin()])
