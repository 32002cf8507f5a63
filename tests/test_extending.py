"""docs/architecture.md, "To add something": a recipe, a task, a reader, a figure, a command.

Each is added by touching the one place that the page names.
"""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lrc_lib import data, losses, run
from lrc_lib.cli import commands, handlers
from lrc_lib.course import plots
from lrc_lib.data.rows import Row
from lrc_lib.data.tasks import TASKS, Task
from lrc_lib.schedule import RECIPES, Recipe


def test_a_recipe_is_a_row(tiny_spec, out, monkeypatch):
    half = Recipe("half", "half the layers' weight", stage1=(0.5, 0, 0), stage2=(0.5, 1, 3))
    monkeypatch.setitem(RECIPES, "half", half)
    result = run(tiny_spec.replace(recipe="half"), out, device="cpu")
    first = result.history.iloc[0]
    assert first.loss == pytest.approx(0.5 * first.layers) and 0 <= result.score() <= 1


def test_a_layer_loss_is_one_function(tiny_spec, out, monkeypatch):
    def cosine(student, teacher, mask):
        real = mask.unsqueeze(-1)
        return losses.angular_distance((student * real).flatten(1), (teacher * real).flatten(1))

    def build(representation, group, temperature, count):
        return losses.LayerLoss(lambda teacher, mask: teacher, cosine)

    monkeypatch.setitem(losses.LAYER_LOSSES, "own", losses.LossKind(build))
    recipe = Recipe("own", "the positive term alone", layer_loss="own", general=False)
    monkeypatch.setitem(RECIPES, "own", recipe)
    history = run(tiny_spec.replace(recipe="own"), out, device="cpu").history
    layers = history.layers / 4 if len(history) else history.layers
    assert layers.between(0, 2).all() and history.minimum.isna().all()


@pytest.fixture
def colours(monkeypatch):
    """A task of colours: a row in the table, and a reader of its own."""
    task = Task("colours", "Colours", "classification", ("cold", "warm"), False, ("accuracy",),
                source="colours")  # fmt: skip
    rows = tuple(Row(f"{word} paint", None, i) for i, word in enumerate(("blue", "red")))
    monkeypatch.setitem(TASKS, "colours", task)
    splits = {"train": rows * 8, "dev": rows}
    monkeypatch.setitem(data.READERS, "colours", lambda task: (splits, "Paint."))
    return task


def test_a_task_is_a_row_and_a_reader_is_a_function(colours):
    read = data.load_task_data("colours", train_rows=4)
    assert read.task is colours and len(read.train) == 4 and read.source.startswith("Paint.")
    assert read.dev["dev"][1] == Row("red paint", None, 1)


def test_a_figure_is_a_function_of_numbers():
    """Every public function of plots.py gives a figure and needs no session."""
    figure = plots.curves({"loss": (np.arange(3), np.array([3.0, 2.0, 1.5]))}, "step", "loss", 2)
    assert figure.axes and torch.is_grad_enabled()
    plt.close(figure)


def test_a_command_is_a_function_and_a_line(monkeypatch, capsys):
    def greet(options) -> int:
        print(f"hello {options.spec}")
        return 0

    monkeypatch.setitem(handlers.HANDLERS, "run", greet)
    assert commands.main(["run", "world"]) == 0 and capsys.readouterr().out == "hello world\n"
