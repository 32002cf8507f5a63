"""Every check against the solution, its own catalogue of mistakes, and hostile answers."""

import ast
import inspect
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lrc_lib.course import check
from lrc_lib.course.edition import to_instructor
from lrc_lib.course.notebook import NOTEBOOKS, notebook_path
from lrc_lib.losses import unit
from lrc_lib.models import embeddings_replaced
from lrc_lib.results.statistics import cases
from lrc_lib.runs.spec import RunSpec
from lrc_lib.schedule import Recipe

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


def leaning(cosine):
    """Fifteen times one vector with this cosine to the teacher (01, 6)."""

    def misleading(teacher):
        t, aside = unit(teacher), torch.ones(len(teacher))
        aside = unit(aside - (aside @ t) * t)
        return (cosine * t + (1 - cosine**2) ** 0.5 * aside).expand(15, -1)

    return misleading


def entry(key, new, points=1.0, because="a reason of more than five words"):
    """A registered entry, or one with a mistake in it (02, 3 and others)."""
    return lambda: {key: new, "points": points, "because": because}


def registered(setting, **mistakes):
    """The mistakes of an exercise that registers a `setting`, and `mistakes` of its own."""
    name, value = setting
    return {
        'Return {"settings": ...': lambda: {"points": 1.0},
        "A difference of 900 points": entry("settings", {name: value}, 900),
        "in a sentence of five words": entry("settings", {name: value}, because="so"),
        '"settings" is a dict with one of': entry("settings", {"seed": 1}),
        "That is the default": entry("settings", {name: getattr(RunSpec(), name)}),
        **{sentence: entry("settings", {name: wrong}) for sentence, wrong in mistakes.items()},
    }


OWN = Recipe("own", "own", stage2=(1, 2, 3))
RECIPE = {
    "That is no `lrc_lib.schedule.Recipe`": entry("recipe", "lrc"),
    "The name 'lrc' is taken": entry("recipe", replace(OWN, name="lrc")),
    "That is the recipe 'lrc_g' under": entry("recipe", Recipe("own", "own", perturb=False)),
    "No stage looks at the teacher": entry(
        "recipe", replace(OWN, stage1=(0, 0, 1), stage2=(0, 0, 2))
    ),
}


def noisy(step, door="layer"):
    """Logits with embeddings that move by size * step(embeddings, random numbers) (06, 3)."""

    @torch.no_grad()
    def noisy_logits(student, batch, size):
        emb = student.bert.embeddings(input_ids=batch["input_ids"])
        moved = emb + size * step(emb, torch.randn_like(emb))
        if door == "inputs_embeds":
            return student(inputs_embeds=moved, attention_mask=batch["attention_mask"]).logits
        with embeddings_replaced(student, moved):
            return student(**batch).logits

    return noisy_logits


def lengths(emb):
    return emb.norm(dim=-1, keepdim=True)


def pick(sign=1, missed=2, both_right=True):
    """Four rows for the opposite case, or with one mistake in their choice (07, 2)."""

    def pick(mse, angle, wrong_lrc, wrong_bert_m):
        allowed = ~wrong_bert_m if both_right else wrong_bert_m
        bad = cases(wrong_lrc & allowed, sign * angle, missed)
        return [*bad, *cases(~wrong_lrc & allowed, -sign * angle, 4 - missed)]

    return pick


def rule(choose=cases, filtered=True, fewer=True, swapped=False):
    """Cases of both kinds, or with one mistake in the rule (07, 4)."""

    def cases_by_rule(wrong_lrc, wrong_bert_m, mse, angle, count):
        ours = ~wrong_lrc & wrong_bert_m if filtered else wrong_bert_m
        theirs = wrong_lrc & ~wrong_bert_m
        count = min(count, ours.sum(), theirs.sum()) if fewer else count
        first, second = (angle, mse) if swapped else (mse, angle)
        return choose(ours, first, count), choose(theirs, second, count)

    return cases_by_rule


def told(history, otherwise):
    """The right diagnosis of a run of the check, or `otherwise` for a healthy one (06, 2)."""
    found = RIGHT["ex_06_2"][0](history)
    return otherwise if found == "healthy" else found


def verdict(asked, otherwise="undecided", fixed=0):
    """Asks whether these words fit, in this order, at the given or a fixed margin (09, 2)."""

    def rule(low, high, margin):
        fits = {"better": low > 0, "worse": high < 0}
        fits["equivalent"] = max(-low, high) < (fixed or margin)
        return next((word for word in asked.split() if fits[word]), otherwise)

    return rule


CHANCE = np.random.default_rng(0)
MEASURED = {  # where the check knows no wrong functions: words of the sentence, and one of them
    "ex_01_6": {
        "Your negatives cancel": lambda teacher: torch.randn(15, len(teacher)),
        "On the teacher's own line": leaning(-1),
        "Orthogonal is near": leaning(0),
        "Cosine to the teacher 0.70: they lean too far towards it": leaning(0.7),
        "Cosine to the teacher -0.70: they lean too far away": leaning(-0.7),
    },
    "ex_02_3": registered(("representation", "cls"), **{"Unknown representation": "clss"}),
    "ex_04_6": RECIPE,
    "ex_05_3": registered(("temperature", 2.0), **{"temperature must be positive": -1.0}),
    "ex_06_2": {
        "Return one of sign": lambda history: "nothing",
        "Run 1 is not 'rate'": lambda history: "rate",
        "Run 2 is not 'sign'": lambda history: "sign",
        "Run 4 is not 'labels'": lambda history: told(history, "labels"),
    },
    "ex_06_3": {
        "Size 0 changes": noisy(lambda emb, way: unit(way) * lengths(emb), "inputs_embeds"),
        "Nothing moves": noisy(lambda emb, way: 0 * emb),
        "All tokens move the same": noisy(lambda emb, way: unit(way[:1, :1]) * lengths(emb)),
        "Every token moves by 0.5": noisy(lambda emb, way: unit(way)),
        "The steps are": noisy(lambda emb, way: lengths(emb) * way / 6),
        "Each token moves by 0.25": noisy(lambda emb, way: unit(way) * lengths(emb) / 2),
    },
    "ex_07_1": registered(("stage_boundary", 0.5), **{"in [0, 1)": 1.5}),
    "ex_08_2": RECIPE,
    "ex_07_2": {
        "Return four different rows": lambda *columns: [3, 3, 3, 3],
        "bert_m is wrong on one of them": pick(both_right=False),
        "lrc is wrong on 1 of them": pick(missed=1),
        "have to have the larger angles": pick(sign=-1),
    },
    "ex_07_4": {
        "Two calls give": rule(lambda kind, by, n: CHANCE.permutation(np.flatnonzero(kind))[:n]),
        "2 and 2 rows": rule(lambda kind, by, n: cases(kind, by, 2)),
        "that lrc does not answer rightly alone": rule(filtered=False),
        "Those have the smallest MSE": rule(lambda kind, by, n: cases(kind, -by, n)),
        "not the four rows with the largest MSE": rule(swapped=True),
        "Asked for 20": rule(fewer=False),
    },
    "ex_09_2": {
        "Return one of the words": verdict("equivalent better worse", otherwise="same"),
        "`margin` has no effect": verdict("equivalent better worse", fixed=1.0),
        "lies above 0": verdict("equivalent worse"),
        "lies below 0": verdict("equivalent better"),
        "It holds 0 and leaves": verdict("better worse", otherwise="equivalent"),
        "within the margin.": verdict("better worse"),
        "and that comes first": verdict("better worse equivalent"),
    },
    "ex_09_4": registered(("learning_rate", 1e-3), **{"learning_rate must be": -1.0}),
}


def with_answer(name, at, function):
    """The result of a check whose answer number `at` is `function`, the others being right."""
    answers = list(RIGHT[name])
    answers[at] = function
    return getattr(check, name)(*answers)


def test_every_notebook_asks_three_or_more_and_every_check_is_asked_for():
    assert list(RIGHT) == EXERCISES and len(NUMBERS) == len(NOTEBOOKS)
    assert all(sum(name[3:5] == n for name in EXERCISES) >= 3 for n in NUMBERS if n != "00")


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
def test_every_typical_mistake_gets_its_own_sentence(name):
    catalogues = [*getattr(check, name).mistakes]
    catalogues += [MEASURED[name]] if name in MEASURED else []
    assert len(catalogues) == len(RIGHT[name])
    for at, catalogue in enumerate(catalogues):
        assert len(catalogue) >= 3
        for sentence, wrong in catalogue.items():
            result = with_answer(name, at, wrong)
            assert not result.passed and sentence in result.message, (sentence, result.message)


def raises(*inputs):
    raise RuntimeError("sizes of tensors must match")


def unsolved(*inputs):
    raise NotImplementedError


HOSTILE = {
    "takes no argument": (
        lambda: None,
        "takes 0 positional arguments",
    ),
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
    assert check.ex_05_1(lambda *x: torch.tensor(RIGHT["ex_05_1"][0](*x))).passed


def test_inputs_are_copies_so_that_a_careless_answer_spoils_nothing():
    def careless(student, teacher, mask, weight):
        student *= mask[..., None]
        teacher *= mask[..., None]
        return RIGHT["ex_02_1"][0](student, teacher, mask, weight)

    assert check.ex_02_1(careless).passed


def test_the_result_shows_nothing_of_its_own_in_a_notebook(capsys):
    result = check.ex_01_1(unsolved)
    capsys.readouterr()
    assert result._ipython_display_() is None and capsys.readouterr().out == ""


def test_checks_leave_the_readers_random_numbers_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    for name in ("ex_01_4", "ex_04_4", "ex_06_2", "ex_06_3"):
        torch.manual_seed(5)
        getattr(check, name)(*RIGHT[name])
        assert torch.equal(torch.rand(3), wanted), name
