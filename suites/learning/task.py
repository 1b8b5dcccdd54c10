"""What a task is: examples with right answers, how an answer is judged, and in which model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

__all__ = ["IGNORED", "SPLITS", "Examples", "Task", "generator_of"]

#: Stands in ``y`` where nothing is asked.
IGNORED = -100
SPLITS = ("train", "validation", "test")


def generator_of(split: str, seed: int) -> torch.Generator:
    """Where the examples of a split are drawn from: splits of one seed have nothing in common."""
    return torch.Generator().manual_seed(seed * len(SPLITS) + SPLITS.index(split))


@dataclass(frozen=True)
class Examples:
    """Some examples of a task.

    Args:
        x: Tokens (n, N), or rows of numbers (n, N, F).
        y: Tokens (n, T), :data:`IGNORED` where nothing is asked; classes (n,); or numbers (n, 1).
        given: For an encoder and a decoder, the tokens (n, T) that the decoder reads.
    """

    x: torch.Tensor
    y: torch.Tensor
    given: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def at(self, index: torch.Tensor) -> Examples:
        """Those at these places."""
        return self._map(lambda tensor: tensor[index])

    def to(self, device: str) -> Examples:
        """The same on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Examples:
        given = None if self.given is None else change(self.given)
        return Examples(change(self.x), change(self.y), given)


@dataclass(frozen=True)
class Task:
    """A small task that can be learned.

    Args:
        name: lower_snake_case.
        summary: One sentence: what is asked.
        source: The paper, with its section, or where the data come from.
        make: ``(split, count, seed) -> examples``; a task with a fixed set of data gives all that
            the split holds where that is fewer.
        length: N, the number of positions of ``x``.
        entries: How many tokens there are; for rows of numbers, F.
        outputs: How many answers there are to choose from; 1 for a number.
        answers: ``each``: one for each position, ``one``: one for the whole, ``number``: likewise,
            a number.
        model: ``transformer``, ``mlp`` or ``encoder_decoder``.
        pattern: Who may attend to whom.
        depths: The kinds of variant that are compared on it, each with the layers of the model.
        numeric: Whether ``x`` holds rows of numbers.
        target_length: T, for an encoder and a decoder.
        grid: The (height, width) of the positions, where they are places of an image.
        whole: Whether an example is right only if all its answers are.
        places: Whether the model has learned embeddings of the positions.
        convolution: Width of the causal convolution before each attention; 0 for none.
        steps: Training steps of one run.
        batch: Examples a step.
        pool: Examples to train on.
        target: The score that counts as solved, for ``steps_to_target``.
    """

    name: str
    summary: str
    source: str
    make: Callable[[str, int, int], Examples]
    length: int
    entries: int
    outputs: int
    answers: str = "each"
    model: str = "transformer"
    pattern: str = "causal_self"
    depths: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"attention": (2,)})
    numeric: bool = False
    target_length: int = 0
    grid: tuple[tuple[int, int], ...] | None = None
    whole: bool = False
    places: bool = True
    convolution: int = 0
    steps: int = 500
    batch: int = 16
    pool: int = 16384
    target: float = 0.95

    @property
    def metric(self) -> str:
        """What :meth:`score` is called."""
        return "r_squared" if self.answers == "number" else "task_accuracy"

    def loss(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Cross entropy in nats, or the mean square error.

        Args:
            output: (n, T, C), (n, C) or (n, 1).
            y: The right answers.
        """
        if self.answers == "number":
            return F.mse_loss(output, y)
        return F.cross_entropy(output.flatten(0, -2), y.flatten(), ignore_index=IGNORED)

    def score(self, output: torch.Tensor, y: torch.Tensor) -> float:
        """The share of right answers; of a number, 1 − its square error over its variance."""
        if self.answers == "number":
            return 1 - float((output - y).square().mean() / y.var(correction=0))
        return self.share_right(output.argmax(-1), y)

    def share_right(self, answer: torch.Tensor, y: torch.Tensor) -> float:
        """The share of right ones among the chosen answers; positions not asked do not count.

        Example:
            >>> task = Task("t", "", "", lambda *_: ..., length=2, entries=3, outputs=3)
            >>> task.share_right(torch.tensor([[1, 2], [1, 0]]), torch.tensor([[1, 2], [2, -100]]))
            0.6666666666666666
        """
        asked = y != IGNORED
        right = answer == y
        if self.whole:
            return float((right | ~asked).all(-1).double().mean())
        return float(right[asked].double().mean())

    def chance(self, seed: int = 0, count: int = 4096) -> float:
        """The score of whoever always gives one answer: the most frequent, or the mean."""
        known, asked = (self.make(split, count, seed).y for split in ("train", "test"))
        if self.answers == "number":
            return self.score(known.mean().expand(asked.shape), asked)
        if self.whole:
            rows, counts = torch.unique(known, dim=0, return_counts=True)
            return self.share_right(rows[counts.argmax()].expand(asked.shape), asked)
        commonest = known[known != IGNORED].mode().values
        return self.share_right(commonest.expand(asked.shape), asked)
