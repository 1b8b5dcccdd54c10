"""Runs a forward on tensors of another device that hold no numbers: no such device is needed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bakeoff.suites.tensors import Arguments

__all__ = ["ELSEWHERE", "MixedDevicesError", "on_another_device"]

#: A device that is never the one on which a forward makes a tensor without being told.
ELSEWHERE = "meta"
#: How torch says that an operation met tensors of two devices.
_MIXED = ("at least two devices", "two different devices")


class MixedDevicesError(Exception):
    """A tensor was made on one device and used with tensors of another; the message says so."""


def on_another_device(fn: Callable[..., torch.Tensor], arguments: Arguments) -> torch.Tensor:
    """The output of ``fn``, without numbers, on arguments that lie on :data:`ELSEWHERE`.

    Raises:
        MixedDevicesError: Where it makes a tensor elsewhere and uses both together.
        Exception: Whatever it raises on tensors that hold no numbers.
    """
    moved = arguments.to(next(iter(arguments.data.values())).dtype, ELSEWHERE)
    with FakeTensorMode() as fake, torch.no_grad():
        moved = moved.replacing({name: fake.from_tensor(t) for name, t in moved.tensors()})
        try:
            return moved.call(fn)
        except RuntimeError as error:
            if any(words in str(error) for words in _MIXED):
                told = str(error).strip().splitlines()[0]
                raise MixedDevicesError(
                    f"a tensor is made on another device than the inputs': {told}"
                ) from error
            raise
