"""What a call runs: the functions that it enters, and the operations within each."""

from __future__ import annotations

import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bakeoff.registry import masking

__all__ = ["Run", "run_of"]

#: What tells two functions apart.
Function = tuple[Hashable, ...]

#: Operations that hand on what they are given: they copy, choose, put together or cast.
_HANDING_ON = frozenset(
    {
        "_to_copy",
        "_unsafe_view",
        "cat",
        "clone",
        "constant_pad_nd",
        "copy",
        "copy_",
        "flip",
        "gather",
        "index",
        "index_select",
        "lift_fresh",
        "repeat",
        "roll",
        "stack",
    }
)
#: Operations that only hand on where all but one of their operands are plain numbers.
_SCALING = frozenset({"add", "add_", "div", "div_", "mul", "mul_", "rsub", "sub", "sub_"})


@dataclass
class Run:
    """What one call runs.

    Args:
        entry: The first function of a user that it enters; None where it enters none.
        functions: All that it enters.
        operations: Each operation that computes, with the functions that it lies within.
    """

    entry: Function | None = None
    functions: set[Function] = field(default_factory=set)
    operations: list[tuple[str, frozenset[Function]]] = field(default_factory=list)

    def beside(self, functions: set[Function]) -> Counter[str]:
        """How often it runs which operation outside of these functions."""
        return Counter(name for name, within in self.operations if not within & functions)


def run_of(call: Callable[[], object]) -> Run:
    """Run ``call``, and tell what it ran; what is compiled runs as it was written."""
    run, stack = Run(), list[Function]()
    with _uncompiled():
        call()  # what is imported late is no part of it
        with _Operations(run, stack), _entering(run, stack):
            call()
    return run


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what computes."""

    def __init__(self, run: Run, stack: list[Function]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._run, self._stack = run, stack

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled meanwhile: there is no need to import, for seconds, what compiles."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if _computes(func, args, out):
            name = func.overloadpacket.__name__.rstrip("_")
            self._run.operations.append((name, frozenset(self._stack)))
        return out


def _computes(func: Any, args: tuple[Any, ...], out: Any) -> bool:
    """Whether it makes numbers of numbers; not what counts, compares or hands on."""
    name = func.overloadpacket.__name__
    operands = [arg for arg in args if isinstance(arg, torch.Tensor)]
    made = out[0] if isinstance(out, (list, tuple)) and out else out
    if not operands or func.is_view or name in _HANDING_ON:
        return False
    if not isinstance(made, torch.Tensor) or not made.is_floating_point():
        return False
    return not (name in _SCALING and sum(tensor.dim() > 0 for tensor in operands) < 2)


@contextmanager
def _entering(run: Run, stack: list[Function]) -> Iterator[None]:
    """Follow which functions are entered and left."""

    def follow(frame: FrameType, event: str, _: object) -> None:
        if event not in ("call", "return") or not _is_users(frame.f_code):
            return
        if event == "return":
            if stack:
                stack.pop()
            return
        function = _function(frame)
        run.entry = run.entry or function
        run.functions.add(function)
        stack.append(function)

    before = sys.getprofile()
    sys.setprofile(follow)
    try:
        yield
    finally:
        sys.setprofile(before)


def _function(frame: FrameType) -> Function:
    """The instructions, and what they are told to do: functions, names and flags among its values.

    By its instructions, so that a copy is the same; with what it is told, since a wrapper that
    calls whatever it is given is another for each.
    """
    told = (
        (name, _told(value))
        for name, value in sorted(frame.f_locals.items())
        if name not in _CALL and (isinstance(value, (bool, str)) or callable(value))
    )
    return (_instructions(frame.f_code), *told)


def _told(value: object) -> Hashable:
    code = getattr(value, "__code__", None) if isinstance(value, _WRITTEN) else None
    if code is not None:
        return _instructions(code)
    return value if isinstance(value, (bool, str)) else id(value)


#: Functions and bound methods.
_WRITTEN = (FunctionType, MethodType)
#: Arguments of any call of a kind, which tell nothing about who calls.
_CALL = frozenset(("mask", "causal", "scale", "branch"))


@cache
def _instructions(code: CodeType) -> Hashable:
    """What it does, wherever it stands and whatever its docstring says, which comes first."""
    constants = tuple(
        _instructions(value) if isinstance(value, CodeType) else repr(value)
        for place, value in enumerate(code.co_consts)
        if place or not isinstance(value, str)
    )
    return code.co_code, constants, code.co_names


@cache
def _is_users(code: CodeType) -> bool:
    """Whether it was written for a variant: not Python's, torch's or what bakeoff offers to all."""
    file = code.co_filename
    if file.startswith("<frozen"):
        return False
    installed = file.startswith((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    of_python = file.startswith(sysconfig.get_path("stdlib")) and not installed
    return not of_python and not file.startswith(_OFFERED)


#: What any variant may share with any other.
_OFFERED = tuple(str(Path(file).parent) for file in (torch.__file__, masking.__file__, __file__))


def _uncompiled() -> Any:
    """Functions of ``torch.compile`` run as they were written, if there are any."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
