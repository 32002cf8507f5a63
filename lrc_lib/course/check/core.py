"""What all checks share: calling a reader's function safely, and naming the mistake in its answer.

An exercise is described by a right function and a catalogue of typical mistakes, {sentence: wrong
function}. `compare` runs the reader's function and the right one; where they differ, it looks for
the wrong function that returns the same numbers. The tests run every wrong function and expect its
sentence. An exercise with many right answers measures an answer, and `refuse` names what is wrong.

A check raises `Mistake` with a sentence; `exercise` turns it into a printed line and a `Result`.
No answer may end in a traceback into this package.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lrc_lib.losses import unit

# For a right answer: float32 is exact enough, and no typical mistake is this close.
RTOL, ATOL = 1e-4, 1e-5

STILL_LOOPS = "The numbers are right, but it still loops"


class Mistake(Exception):
    """What is wrong with an answer, in words for its author."""


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        passed: whether the answer is right.
        message: the sentence that was printed, without the exercise's number.
    """

    passed: bool
    message: str

    def _ipython_display_(self):
        """Shows nothing: the check has already printed its sentence."""


def exercise(*catalogues):
    """Makes a check of a function `ex_NN_M(*answers)` that returns praise or raises `Mistake`.

    Args:
        catalogues: the typical mistakes of each answer that `compare` looks at, in the order of
            the parameters; the tests read them as `check.ex_NN_M.mistakes`.
    """

    def make(judge):
        _, notebook, number = judge.__name__.split("_")

        @functools.wraps(judge)
        def check(*answers) -> Result:
            return judged(f"{int(notebook)}.{number}", judge, *answers)

        check.mistakes = catalogues
        return check

    return make


def judged(name: str, judge, *answers) -> Result:
    """What `judge(*answers)` finds, with a printed line that begins with `name`."""
    try:
        result = Result(True, judge(*answers))
    except Mistake as mistake:
        result = Result(False, str(mistake))
    print(f"{name}: {'right' if result.passed else 'not yet'}. {result.message}")
    return result


def call(answer, *inputs):
    """What `answer` returns for copies of `inputs`. `Mistake` if it cannot be called, or fails."""
    if not callable(answer):
        raise Mistake(
            f"Hand over the function itself, not {_kind(answer)}: its name without parentheses."
        )
    name = name_of(answer)
    try:
        value = answer(*map(_copy, inputs))
    except NotImplementedError:
        raise Mistake(
            f"No answer yet: write the body of `{name}` in place of `raise NotImplementedError`."
        ) from None
    except Exception as error:
        raise Mistake(f"`{name}` raised {type(error).__name__}{_line(error)}: {error}") from None
    if value is None or value is ...:
        raise Mistake(f"`{name}` returned nothing (None): does it end in a `return`?")
    return value


def tensor(answer, *inputs, nan: str = "") -> Tensor:
    """As `call`, for a function that has to return a tensor (or a number, for a scalar).

    Args:
        nan: a sentence for a result that is not finite, where more is known than that.
    """
    return as_tensor(call(answer, *inputs), name_of(answer), nan)


def array(answer, *inputs, nan: str = "") -> np.ndarray:
    """As `call`, for a function that has to return a NumPy array or a number."""
    return as_array(call(answer, *inputs), name_of(answer), nan)


def number(answer, *inputs, what: str) -> float:
    """As `call`, for a function that has to return one number; `what` says which."""
    return single(call(answer, *inputs), name_of(answer), what)


def pair(answer, what: str, *inputs) -> list:
    """As `call`, for a function that has to return two things; `what` says which."""
    value = call(answer, *inputs)
    try:
        first, second = value
    except (TypeError, ValueError):
        raise Mistake(f"`{name_of(answer)}` returned {_kind(value)}: return {what}.") from None
    return [first, second]


def directions(answer, *inputs) -> Tensor:
    """As `tensor`, for vectors whose length does not matter: each at length 1."""
    found = tensor(answer, *inputs)
    return unit(found) if found.dim() else found


def as_tensor(value, name: str, nan: str = "") -> Tensor:
    """`value` detached, on the CPU and in the default dtype; `Mistake` if it is no such thing."""
    if isinstance(value, np.ndarray):
        raise Mistake(
            f"`{name}` returned a NumPy array: stay in torch from input to output, so that "
            "gradients can pass."
        )
    if not isinstance(value, Tensor | bool | int | float | np.number):
        raise Mistake(f"`{name}` returned {_kind(value)}: return a tensor.")
    return torch.from_numpy(as_array(value, name, nan)).to(torch.get_default_dtype())


def as_array(value, name: str, nan: str = "") -> np.ndarray:
    """`value` as an array of floats; `Mistake` if it is no such thing."""
    try:
        found = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        found = np.asarray(found).astype(float, casting="same_kind")
    except (TypeError, ValueError):
        raise Mistake(
            f"`{name}` returned {_kind(value)}: return real numbers, or an array of them."
        ) from None
    if not np.isfinite(found).all():
        raise Mistake(
            nan
            or f"`{name}` returned NaN or infinity for ordinary numbers: look for 0 / 0, log of 0 "
            "or an overflow."
        )
    return found


def single(value, name: str, what: str) -> float:
    """`value` as one number; `Mistake` if it is no such thing."""
    found = as_array(value, name)
    if found.shape:
        raise Mistake(f"Return one number, {what}, not {found.size} of them.")
    return float(found)


def compare(answer, right, mistakes: dict, *inputs, what, probe=tensor, rtol=RTOL, atol=ATOL):
    """The right result, if `answer` has the same; else `Mistake` with the sentence that fits best.

    Args:
        answer, right: the reader's function and the reference.
        mistakes: {sentence: a function that makes this mistake}.
        inputs: handed to all of these functions.
        what: what the numbers are, for the sentence when no mistake is recognised.
        probe: `probe(function, *inputs)` gives the tensor or array that is compared.
        rtol, atol: how far two equal numbers may differ, as in `numpy.allclose`.
    """
    found, wanted = probe(answer, *inputs), probe(right, *inputs)
    if close(found, wanted, rtol, atol):
        return wanted
    for sentence, wrong in mistakes.items():
        try:
            same = close(found, probe(wrong, *inputs), rtol, atol)
        except Mistake:  # a mistake that is not about numbers
            continue
        if same:
            raise Mistake(sentence)
    found, right = _numbers(found), _numbers(wanted)
    if found.shape != right.shape:
        raise Mistake(f"The shape is {found.shape}, but for {what} it has to be {right.shape}.")
    worst = np.unravel_index(np.abs(found - right).argmax(), right.shape)
    where = f" at {list(map(int, worst))}" if right.ndim else ""
    raise Mistake(
        f"Shape and type fit, the numbers do not: {what}{where} is {found[worst]:.4g}, and should "
        f"be {right[worst]:.4g}. Do a small case by hand."
    )


def refuse(mistakes: dict) -> None:
    """`Mistake` with the first sentence of {sentence: whether it holds} that does hold."""
    for sentence, holds in mistakes.items():
        if holds:
            raise Mistake(sentence)


def close(found, other, rtol=RTOL, atol=ATOL) -> bool:
    """Whether both have the same shape and the same numbers, within the tolerances."""
    found, other = _numbers(found), _numbers(other)
    return found.shape == other.shape and np.allclose(found, other, rtol, atol)


class Watch(TorchFunctionMode):
    """Counts torch calls, and remembers the size of the largest tensor that one returned."""

    def __init__(self):
        super().__init__()
        self.calls = self.largest = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        if isinstance(out, Tensor):
            self.largest = max(self.largest, out.numel())
        return out


def no_loop(answer, few, many) -> int:
    """The size of the largest tensor that `answer` makes of the inputs `many`.

    `Mistake` if it needs more torch calls for `many` than for the smaller inputs `few`.
    """
    with Watch() as first:
        call(answer, *few)
    with Watch() as second:
        call(answer, *many)
    if second.calls > first.calls:
        raise Mistake(
            f"{STILL_LOOPS}: {first.calls} torch calls for a small input, {second.calls} for a "
            "larger one. Let the tensors carry the loop."
        )
    return second.largest


def draws(*shape, seed: int = 0) -> Tensor:
    """Normal numbers of the default dtype, the same on every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def name_of(answer) -> str:
    """The name of a function, for a sentence."""
    return getattr(answer, "__name__", "your function")


def _numbers(x) -> np.ndarray:
    return np.asarray(x.detach().numpy() if isinstance(x, Tensor) else x, dtype=float)


def _kind(value) -> str:
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "NumPy array"
        return f"a {kind} of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"something of type {type(value).__name__}"


def _copy(value):
    if isinstance(value, Tensor):
        return value if value.requires_grad else value.clone()
    return value.copy() if hasattr(value, "copy") else value


def _line(error: Exception) -> str:
    """Where in the reader's function, as ' in its line N'; lines count from `def`."""
    frame = error.__traceback__.tb_next
    if frame is None:
        return ""
    return f" in its line {frame.tb_lineno - frame.tb_frame.f_code.co_firstlineno + 1}"
