"""Notebook 03: its cells tagged `method` are short, and give the losses of the library's runs."""

import json

import pytest

from lrc_lib import run
from lrc_lib.course.notebook import code_lines, notebook_path
from lrc_lib.runs.run import fit_teacher
from lrc_lib.runs.spec import data_of, usable_length
from lrc_lib.runs.store import find

PATH = notebook_path("03_in_eighty_lines")


def method() -> str:
    """The source of the notebook's cells tagged `method`."""
    cells = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(
        "".join(c["source"]) for c in cells if "method" in c["metadata"].get("tags", ())
    )


def as_kept(model, inputs, output):
    """A teacher's answers with the library's 16 bits for each number of a state."""
    output.hidden_states = tuple(states.half().float() for states in output.hidden_states)
    return output


@pytest.fixture(scope="module")
def fixed(tiny_spec, out):
    """(a spec without dropout, buckets and cache, all names that the cells take as given)."""
    spec = tiny_spec.replace(dropout=0.0, precision="fp32", bucket=0, cache_gb=0.0)
    run(spec.teacher_spec(), out, "cpu")
    taught_by = fit_teacher(spec, out)
    teacher, tokenizer = taught_by.student().requires_grad_(False), taught_by.tokenizer()
    teacher.register_forward_hook(as_kept)
    shape = {"num_hidden_layers": spec.student_layers, "hidden_size": spec.student_hidden}
    shape |= {"intermediate_size": spec.student_intermediate, "num_labels": teacher.num_labels}
    shape |= {"num_attention_heads": spec.student_heads, "vocab_size": len(tokenizer)}
    given = {"teacher": teacher, "tokenizer": tokenizer, "SHAPE": shape, "device": "cpu"}
    given |= {"BATCH": spec.batch_size, "RATE": spec.learning_rate, "SEED": spec.seed}
    return spec, given | {"LONGEST": usable_length(spec)}


SWITCHES = {  # the recipe that switches one part off
    "lrc_1": {},
    "cosine": {"NEGATIVES": False},
    "lrc_2": {"TWO_STAGES": False},
    "lrc_g": {"PERTURB": False},
    "lrc_s": {"SOFT": False},
    "lrc_h": {"HARD": False},
}


def test_the_method_is_eighty_lines_without_the_library():
    assert 70 <= code_lines(PATH, "method") <= 80
    assert "lrc_lib" not in method() and "session" not in method()


@pytest.mark.parametrize("recipe", SWITCHES)
def test_every_switch_gives_the_losses_of_the_library_s_run(recipe, fixed, out):
    """From random weights by the same seed (lrc_1), or from the run's general student."""
    spec, given = fixed
    result = run(spec.replace(recipe=recipe), out, "cpu")
    space = dict(given)
    exec(method(), space)
    space |= SWITCHES[recipe]
    student = space["new_student"](dropout=0.0)
    if start := result.spec.start_spec():
        general = find(start, out)
        learnt = general.student().state_dict()
        student.load_state_dict({k: v for k, v in learnt.items() if "classifier" not in k}, False)
        student.W.load_state_dict(general.projection().maps[0].state_dict())
    losses = space["train"](student, data_of(spec).train, spec.epochs)
    assert losses == pytest.approx(result.history["loss"].tolist(), abs=1e-5)
