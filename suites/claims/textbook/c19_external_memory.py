"""External memory answers what the sequence does not hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from bakeoff.registry.hookspecs import hookimpl
from bakeoff.suites.claims.claim import Claim, Criterion
from bakeoff.suites.claims.experiment import Experiment
from bakeoff.suites.claims.recall import Reader
from bakeoff.suites.claims.training import SideBySide

#: Of so many facts half stand in the sequence and half in the memory.
FACTS, VALUES, WIDTH, BATCH = 8, 8, 16, 128
RATES = (0.003, 0.01, 0.03)


class MemoryReader(Reader):
    """A reader that also gets ``memory``, by maps of its own: A and C of the source's §2.1."""

    def __init__(self, experiment: Experiment, role: str) -> None:
        fact = FACTS + VALUES
        super().__init__(
            experiment,
            role,
            question=FACTS,
            fact=fact,
            answer=VALUES,
            head_dim=WIDTH,
            value_dim=WIDTH,
        )

        def linear(stream: int) -> nn.Parameter:
            drawn = experiment.normal(fact, WIDTH, stream=stream)
            return nn.Parameter(drawn / math.sqrt(fact))

        self.w_memory_key, self.w_memory_value = linear(600), linear(601)

    def forward(  # type: ignore[override]
        self, question: torch.Tensor, facts: torch.Tensor, memory: torch.Tensor
    ) -> torch.Tensor:
        """(n, FACTS), (n, N, Ff), (n, M, Ff) -> (n, VALUES)."""
        return super().forward(
            question,
            facts,
            memory_keys=self.split(memory @ self.w_memory_key),
            memory_values=self.split(memory @ self.w_memory_value),
        )


class Asked(NamedTuple):
    """What is asked, where the facts are, whether the sequence holds the answer, and the answer."""

    question: torch.Tensor  # (n, FACTS)
    facts: torch.Tensor  # (n, FACTS / 2, FACTS + VALUES)
    memory: torch.Tensor  # (n, FACTS / 2, FACTS + VALUES)
    in_sequence: torch.Tensor  # (n,)
    answer: torch.Tensor  # (n,)


def measure(experiment: Experiment) -> Mapping[str, float]:
    """Accuracy on what only the memory holds, and on what the sequence does, with memory or not."""
    with_memory = _accuracy(experiment, remembers=True)
    without = _accuracy(experiment, remembers=False)
    return {
        "memory_question_with": with_memory[0],
        "memory_question_without": without[0],
        "sequence_question_without": without[1],
    }


def _accuracy(experiment: Experiment, *, remembers: bool) -> tuple[float, float]:
    """On questions that the memory answers, and on those that the sequence answers."""
    reader = MemoryReader(experiment, "memory").to(experiment.device)
    readers, generator = SideBySide(reader, len(RATES)), experiment.generator(1)

    def seen(asked: Asked) -> tuple[torch.Tensor, ...]:
        memory = asked.memory if remembers else asked.memory[:, :0]
        return asked.question, asked.facts, memory

    def batch() -> tuple[torch.Tensor, ...]:
        asked = _drawn(BATCH, generator, experiment.device)
        return *seen(asked), asked.answer

    steps = experiment.at_scale(250, 2000)
    readers.descend(_cross_entropy, batch, RATES, steps, experiment.alive)
    with torch.no_grad():
        validation, test = (_drawn(2048, generator, experiment.device) for _ in range(2))
        losses = _cross_entropy(readers(*seen(validation)), validation.answer)
        best = losses.nan_to_num(math.inf).argmin()
        right = readers(*seen(test))[best].argmax(1) == test.answer
    return float(right[~test.in_sequence].float().mean()), float(
        right[test.in_sequence].float().mean()
    )


def _cross_entropy(logits: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    each = F.cross_entropy(
        logits.movedim(0, -1), answer[:, None].expand(-1, len(logits)), reduction="none"
    )
    return each.mean(0)


def _drawn(size: int, generator: torch.Generator, device: str) -> Asked:
    order = torch.rand(size, FACTS, generator=generator).argsort(1)
    values = torch.randint(VALUES, (size, FACTS), generator=generator)
    all_facts = torch.cat([F.one_hot(order, FACTS), F.one_hot(values, VALUES)], 2).float()
    place = torch.randint(FACTS, (size, 1), generator=generator)
    question = F.one_hot(order.gather(1, place)[:, 0], FACTS).float()
    facts, memory = all_facts.chunk(2, 1)
    drawn = question, facts, memory, place[:, 0] < FACTS // 2, values.gather(1, place)[:, 0]
    return Asked(*(t.to(device) for t in drawn))


@hookimpl
def bakeoff_claims() -> Iterable[Claim]:
    """The claim; without its memory the same variant must guess among VALUES answers."""
    yield Claim(
        "external_memory",
        "External memory answers what the sequence does not hold.",
        "Sukhbaatar et al. 2015, End-To-End Memory Networks, §2",
        number=19,
        roles={"memory": "memory_network"},
        criteria=(
            Criterion("memory_question_with", "accuracy, memory's facts, with it", above=0.9),
            Criterion(
                "memory_question_without",
                "the same, without it",
                below=1 / VALUES + 0.05,
            ),
            Criterion(
                "sequence_question_without", "accuracy, sequence's facts, without", above=0.9
            ),
        ),
        measure=measure,
    )
