"""What the certificate cannot know: numbers from the papers, and how the package is found."""

from __future__ import annotations

import torch

import bakeoff

CATALOG = bakeoff.load(pyproject=False)


def test_they_are_found_through_their_entry_points() -> None:
    """An installed package needs no --plugin."""
    for name in ("gaussian_attention", "smelu"):
        assert CATALOG.origins[name] == f"entry point {name!r} of bakeoff-smooth"


def test_smelu_meets_its_pieces() -> None:
    """0 up to −β, β from β on, and β/4 in the middle (figure 4 of the paper)."""
    smelu = bakeoff.module(CATALOG["smelu"], 5, options={"beta": 2.0})
    x = torch.tensor([-3.0, -2.0, 0.0, 2.0, 3.0])
    assert smelu(x).tolist() == [0.0, 0.0, 0.5, 2.0, 3.0]


def test_far_keys_weigh_less() -> None:
    """With equal keys the weights are a Gaussian of the distance."""
    shape = bakeoff.Shape(1, 1, 1, 9, 9, 4, 9)
    attention = bakeoff.module(CATALOG["gaussian_attention"], shape, forward="fused")
    torch.nn.init.constant_(attention.width, 0.5)
    q = k = torch.zeros(1, 1, 9, 4)
    weights = attention(q, k, torch.eye(9)[None, None])[0, 0]
    expected = torch.exp(-0.5 * torch.arange(-4.0, 5.0) ** 2)
    torch.testing.assert_close(weights[4], expected / expected.sum())
