"""Every check against the solution, its own catalogue of mistakes, and hostile answers."""

import ast
import inspect
import json
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lrc_lib.course import check
from lrc_lib.course.edition import to_instructor
from lrc_lib.course.notebook import NOTEBOOKS, notebook_path

EXERCISES = [name for name in check.__all__ if name.startswith("ex_")]
NUMBERS = sorted({name[3:5] for name in EXERCISES})


def tagged(cells, tag):
    return ["".join(c["source"]) for c in cells if tag in c["metadata"].get("tags", [])]


def solutions(number):
    """{exercise: its functions}, from the notebook's imports and its solved stubs alone."""
    name = next(name for name in NOTEBOOKS if name.startswith(number))
    notebook = json.loads(notebook_path(name).read_text(encoding="utf-8"))
    to_instructor(notebook)
    cells, space, out = notebook["cells"], {}, {}
    code = ast.parse("\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code"))
    imports = [node for node in code.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), number, "exec"), space)
    for stub, call in zip(tagged(cells, "exercise"), tagged(cells, "check"), strict=True):
        exec(stub, space)
        name, names = re.match(r"result = check\.(\w+)\((.*)\)", call).groups()
        out[name] = [space[word] for word in names.split(", ")]
    return out


RIGHT = {name: functions for n in NUMBERS for name, functions in solutions(n).items()}


def with_answer(name, at, function):
    """The result of a check whose answer number `at` is `function`, the others being right."""
    answers = list(RIGHT[name])
    answers[at] = function
    return getattr(check, name)(*answers)


def test_every_notebook_asks_three_or_more_and_every_check_is_asked_for():
    assert list(RIGHT) == EXERCISES
    assert all(sum(name[3:5] == number for name in EXERCISES) >= 3 for number in NUMBERS)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right(name, capsys):
    result = getattr(check, name)(*RIGHT[name])
    assert result.passed, result.message
    _, notebook, number = name.split("_")
    assert capsys.readouterr().out == f"{int(notebook)}.{number}: right. {result.message}\n"


@pytest.mark.parametrize("name", [name for name in EXERCISES if name.startswith("ex_01")])
def test_solutions_hold_in_float64(name):
    torch.set_default_dtype(torch.float64)  # as in notebook 01
    try:
        result = getattr(check, name)(*RIGHT[name])
    finally:
        torch.set_default_dtype(torch.float32)
    assert result.passed, result.message


@pytest.mark.parametrize("name", EXERCISES)
def test_every_catalogued_mistake_gets_its_own_sentence(name):
    for at, catalogue in enumerate(getattr(check, name).mistakes.values()):
        assert len(catalogue) >= 3
        for sentence, entry in catalogue.items():
            wrong = entry[0] if isinstance(entry, tuple) else entry
            result = with_answer(name, at, wrong)
            said = re.sub(r"\\{.*?\\}", ".+", re.escape(sentence))  # measured numbers in braces
            found = re.search(f"(^|: ){said}($|: | at )", result.message)
            assert not result.passed and found, (sentence, result.message)


def raises(*inputs):
    raise RuntimeError("sizes of tensors must match")


def unsolved(*inputs):
    raise NotImplementedError


HOSTILE = {
    "takes no argument": (lambda: None, "Keep the first line"),
    "raises": (raises, "`raises` raised RuntimeError in its line 2: sizes of tensors must match"),
    "unsolved": (unsolved, "No answer yet: write the body of `unsolved`"),
    "None": (lambda *inputs: None, "returned nothing (None)"),
    "not a function": (3.0, "Hand over the function itself"),
    "a result": (torch.zeros(3), "not a tensor of shape (3,)"),
    "NaN": (lambda *inputs: torch.tensor(float("nan")), ""),
    "many NaN": (lambda *inputs: torch.full((16,), float("nan")), ""),
    "infinite": (lambda *inputs: math.inf, ""),
    "NumPy": (lambda *inputs: np.zeros(4), ""),
    "words": (lambda *inputs: ["a", "b"], ""),
    "a dictionary": (lambda *inputs: {"loss": 1}, ""),
    "complex": (lambda *inputs: torch.zeros(4, dtype=torch.complex64), ""),
    "booleans": (lambda *inputs: torch.ones(4, dtype=torch.bool), ""),
    "empty": (lambda *inputs: torch.zeros(0), ""),
    "nothing in a list": (lambda *inputs: [], ""),
    "a pair of texts": (lambda *inputs: ("a", "b"), ""),
    "a pair of vectors": (lambda *inputs: (torch.zeros(3), torch.zeros(4)), ""),
    "deep": (lambda *inputs: torch.zeros(1, 2, 3, 4), ""),
}


@pytest.mark.parametrize("name", EXERCISES)
def test_an_answer_that_is_none_gets_a_sentence(name):
    for kind, (hostile, words) in HOSTILE.items():
        for at, function in enumerate(RIGHT[name]):
            if kind == "takes no argument" and not inspect.signature(function).parameters:
                continue
            result = with_answer(name, at, hostile)
            assert not result.passed and len(result.message) > 20, (kind, result)
            assert words in result.message, (kind, result)


def test_numpy_where_a_tensor_is_asked_for_and_the_reverse():
    said = check.ex_01_1(lambda x, y: (1 - F.cosine_similarity(x, y, dim=-1)).numpy()).message
    assert "NumPy array: stay in torch" in said
    assert check.ex_05_1(lambda *x: torch.from_numpy(RIGHT["ex_05_1"][0](*x))).passed


def test_a_wrong_number_of_answers_and_a_signature_that_does_not_fit():
    assert "with_loop, without_loop, and got 1" in check.ex_01_2(RIGHT["ex_01_2"][0]).message
    assert "got 0" in check.ex_01_1().message
    said = check.ex_01_1(lambda x: x).message
    assert "called with 2 argument(s)" in said and "(x)" in said


def test_inputs_are_copies_so_that_a_careless_answer_spoils_nothing():
    def careless(states, mask):
        states *= mask[..., None]
        return states.sum(1) / mask.sum(1, keepdim=True)

    assert check.ex_02_1(careless).passed


def test_the_result_shows_nothing_of_its_own_in_a_notebook(capsys):
    result = check.ex_01_1(unsolved)
    capsys.readouterr()
    assert result._ipython_display_() is None and capsys.readouterr().out == ""


def test_checks_leave_the_readers_random_numbers_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    for name in ("ex_01_4", "ex_04_4", "ex_06_3"):
        torch.manual_seed(5)
        getattr(check, name)(*RIGHT[name])
        assert torch.equal(torch.rand(3), wanted), name
