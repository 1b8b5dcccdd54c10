"""Text of which the entropy is known: a Markov chain that reaches back several places."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = ["Chain"]


@dataclass(frozen=True)
class Chain:
    """Tokens x_t = (x_{t−lag} + shift) mod V, but with probability ``noise`` any token at all.

    ``lag`` chains run side by side, so that only attention to the right place predicts a token:
    its neighbours tell nothing. Each chain is stationary and uniform (its matrix is doubly
    stochastic), so that without attention every token costs log V.

    Args:
        symbols: V.
        lag: How far back the token lies on which the next depends.
        noise: How often a token is drawn anew.
        shift: What is added.

    Example:
        >>> chain = Chain(symbols=8, lag=3, noise=0.1)
        >>> round(chain.next_entropy, 3), round(chain.between_entropy, 3)
        (0.467, 0.185)
    """

    symbols: int
    lag: int
    noise: float
    shift: int = 1

    def draw(self, generator: torch.Generator, size: int, length: int) -> torch.Tensor:
        """Tokens (size, length), from 0 to V − 1."""
        tokens = torch.randint(self.symbols, (size, length), generator=generator)
        anew = torch.rand(size, length, generator=generator) < self.noise
        for t in range(self.lag, length):
            follow = (tokens[:, t - self.lag] + self.shift) % self.symbols
            tokens[:, t] = torch.where(anew[:, t], tokens[:, t], follow)
        return tokens

    @property
    def next_entropy(self) -> float:
        """H(x_t | all before), in nats, for t ≥ lag: the entropy rate."""
        return self._entropy(1)

    @property
    def between_entropy(self) -> float:
        """H(x_t | all others) with x_{t−lag} and x_{t+lag} among them.

        By the Markov property these two tell all, and the chain rule gives
        H(x_t | x_{t−lag}, x_{t+lag}) = H(x_t | x_{t−lag}) + H(x_{t+lag} | x_t)
        − H(x_{t+lag} | x_{t−lag}).
        """
        return 2 * self._entropy(1) - self._entropy(2)

    def causal_entropy(self, length: int) -> float:
        """The mean over x_1 … x_{length−1} of H(x_t | all before), as a language model's loss.

        The first of each chain costs log V.
        """
        first = self.lag - 1
        rest = length - self.lag
        return (first * math.log(self.symbols) + rest * self.next_entropy) / (length - 1)

    def _entropy(self, steps: int) -> float:
        """Of the token ``steps`` places on in a chain: kept so often, else uniform."""
        kept = (1 - self.noise) ** steps
        other = (1 - kept) / self.symbols
        probabilities = [kept + other] + [other] * (self.symbols - 1)
        return -sum(p * math.log(p) for p in probabilities)
