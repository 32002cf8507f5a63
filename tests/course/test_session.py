"""What a notebook begins and ends with."""

import json
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from lrc_lib.cli.report import write as write_report
from lrc_lib.course import notebook
from lrc_lib.course import session as session_module
from lrc_lib.errors import InputError, UnavailableError

HOSTILE = "<script>alert(1)</script>\x00"
NAME = "04_two_stage_distillation"


@pytest.fixture(scope="session")
def tiny_profile(tmp_path_factory, tiny_spec):
    """A profile file that trains the tiny spec's runs."""
    path = tmp_path_factory.mktemp("profile") / "tiny.toml"
    names = """teacher teacher_epochs teacher_lr teacher_batch_size student_layers student_hidden
        student_intermediate student_heads epochs learning_rate general_data general_batch_size"""
    values = "".join(f"{name} = {getattr(tiny_spec, name)!r}\n" for name in names.split())
    head = f'title = "tiny"\ntasks = ["{tiny_spec.task}"]\nseeds = 2\ndata = "{tiny_spec.data}"\n'
    path.write_text(head + "[run]\n" + values)
    return str(path)


@pytest.fixture
def shown(monkeypatch):
    """What would be displayed."""
    found = []
    monkeypatch.setattr("lrc_lib.course.session.display", lambda item, **_: found.append(item))
    return found


@pytest.fixture
def session(tiny_profile, tmp_path, shown, monkeypatch):
    monkeypatch.setenv("LRC_HEADLESS", "1")
    return session_module.start(NAME, profile=tiny_profile, device="cpu", out=str(tmp_path))


def result(tmp_path):
    return json.loads((tmp_path / "results" / f"{NAME}.json").read_text())


def test_start_says_what_it_is_about(session, tiny_spec, capsys, tiny_profile, tmp_path):
    assert session.task == tiny_spec.task and session.tasks == (tiny_spec.task,)
    assert list(session.seeds) == [0, 1]
    assert str(session.device) == "cpu" and session.out == tmp_path
    session_module.start(NAME, profile=tiny_profile, out=str(tmp_path))
    said = capsys.readouterr().out
    assert "Profile tiny" in said and "thread(s)" in said and str(tmp_path) in said


def test_spec_is_the_profile_s(session, tiny_spec):
    assert session.spec("lrc") == tiny_spec
    assert session.spec("lrc_g", seed=1) == tiny_spec.replace(recipe="lrc_g", seed=1)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (dict(name="03_two_stages"), "Did you mean '04_two_stage_distillation'"),
        (dict(profile="latop"), "Did you mean 'laptop'"),
        (dict(device="gpu"), "auto, cpu, cuda or mps"),
        (dict(settings="epoch=1"), "Did you mean 'epochs'"),
    ],
)
def test_wrong_parameters_are_named(arguments, says, tmp_path):
    with pytest.raises(InputError, match=says):
        session_module.start(
            **({"name": NAME, "profile": "smoke", "out": str(tmp_path)} | arguments)
        )


def test_a_run_is_trained_once_and_then_read(tiny_profile, out, capsys, shown):
    session = session_module.start(NAME, profile=tiny_profile, device="cpu", out=str(out))
    first = session.run("finetune")
    assert "finetune" in capsys.readouterr().out
    again = session.run("finetune")
    assert "read from the store" in capsys.readouterr().out
    assert session.run("finetune", quiet=True).path == first.path
    assert capsys.readouterr().out == ""
    assert again.path == first.path and again.metrics == first.metrics
    session.finish()
    assert result(out)["runs"] == [first.id]


def test_settings_of_one_run_override_the_profile_s(session, tiny_spec, monkeypatch):
    asked = []
    monkeypatch.setattr(session_module, "find", lambda spec, out: asked.append(spec) or like)
    like = SimpleNamespace(id="one", spec=tiny_spec.replace(learning_rate=7e-4))
    assert session.run("lrc", negative_count=3, like=like) is like
    assert asked == [tiny_spec.replace(negative_count=3, learning_rate=7e-4)]
    assert asked[0].name.endswith("lrc seed 0, rate 0.0007, K = 3")


def test_a_figure_is_saved_shown_with_its_alt_text_and_closed(session, shown, tmp_path):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([1, 2])
    alt = "A line that rises from one to two." + HOSTILE
    session.figure(figure, "line", alt=alt, caption="Rises: $x^2$")
    assert not plt.fignum_exists(figure.number)
    folder = tmp_path / "results" / "figures"
    assert (folder / f"{NAME}-line.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / f"{NAME}-line.svg").read_bytes()
    data, metadata = shown[0]._repr_mimebundle_() if shown[0]._repr_mimebundle_() else ({}, {})
    metadata = metadata or shown[0]._repr_png_()[1]
    alt_shown = metadata.get("image/png", metadata)["alt"]
    assert alt_shown.startswith("A line that rises") and "\x00" not in alt_shown
    session.finish()
    (entry,) = result(tmp_path)["figures"]
    assert entry["file"] == f"figures/{NAME}-line.png" and entry["caption"] == "Rises: $x^2$"


def test_a_figure_shown_again_takes_the_place_of_the_first(session, monkeypatch):
    from matplotlib.figure import Figure

    asked = []
    monkeypatch.setattr("lrc_lib.course.session.display", lambda item, **how: asked.append(how))
    for again in (False, True):
        session.figure(Figure(), "curve", alt="A curve that is drawn again.", again=again)
    first, second = asked
    assert first["display_id"] == second["display_id"]
    assert (first["update"], second["update"]) == (False, True)


@pytest.mark.parametrize(
    "name, alt, says",
    [("f", "", "alt text"), ("f", "a line", "at least 20"), ("../f", "x" * 30, "names a file")],
)
def test_a_figure_without_alt_text_or_with_a_bad_name_is_refused(session, name, alt, says):
    import matplotlib.pyplot as plt

    figure, _ = plt.subplots()
    with pytest.raises(InputError, match=says):
        session.figure(figure, name, alt=alt)
    plt.close(figure)


def test_tables_and_findings_are_escaped_and_recorded(session, shown, tmp_path):
    frame = pd.DataFrame({"text": [HOSTILE, "b"], "score": [0.5, float("nan")]})
    session.table(frame, "cases", caption="Cases " + HOSTILE, note="n = 2")
    session.finding(f"Two cases, the first {HOSTILE}")
    table, finding = (item["text/html"] for item in shown)
    for html in (table, finding):
        assert "<script" not in html and "\x00" not in html and "&lt;script&gt;" in html
    assert '<th scope="row">&lt;script' in table and "Found here:" in finding
    session.finish()
    record = result(tmp_path)
    assert record["tables"][0]["columns"] == ["text", "score"]
    assert record["tables"][0]["rows"][1] == ["b", None]
    assert record["findings"][0].endswith("\u2400")


def test_what_is_shown_again_replaces_what_was_shown(session, tmp_path):
    for value in (1, 2):
        session.table(pd.DataFrame({"a": ["x"], "b": [value]}), "t", caption="c")
        session.note(best=value)
    session.finish()
    assert [table["rows"] for table in result(tmp_path)["tables"]] == [[["x", 2]]]
    assert result(tmp_path)["numbers"] == {"best": 2}


def test_finish_writes_where_the_numbers_come_from(session, tmp_path, monkeypatch, capsys):
    import numpy as np

    monkeypatch.setenv("LRC_TOKEN", "abc")
    session.note(gap=np.float64(0.25), many=np.arange(2), bad=float("inf"))
    session.finish()
    record = result(tmp_path)
    assert record["schema"] == notebook.SCHEMA and record["token"] == "abc"
    assert record["numbers"] == {"gap": 0.25, "many": [0, 1], "bad": None}
    made = record["provenance"]
    assert made["device"] == "cpu" and made["threads"] >= 1 and made["versions"]["torch"]
    assert made["seconds"] >= 0 and made["time"]
    assert record["parameters"]["seeds"] == 2
    assert not list((tmp_path / "results").glob(".*partial"))
    assert "torch" in capsys.readouterr().out


def test_a_full_disk_is_one_sentence_and_leaves_the_earlier_file(session, tmp_path, monkeypatch):
    session.finish()
    before, report = result(tmp_path), {"notebooks": [], "runs": {}}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    session.finding("It is not written.")
    says = "^Cannot write '.*json': No space left on device. .* the same command continues.$"
    for write in (session.finish, lambda: write_report(report, tmp_path)):
        with pytest.raises(UnavailableError, match=says):
            write()
    assert result(tmp_path) == before and not list(tmp_path.rglob(".*partial"))
    assert not list(tmp_path.glob("re*.*"))  # neither results.json nor report.html


def test_it_works_from_any_folder_and_finds_the_output_of_the_environment(tmp_path, tiny_profile):
    code = f"from lrc_lib.course.session import start; print(start({NAME!r}, {tiny_profile!r}).out)"
    import os

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"LRC_OUT": str(tmp_path / "mine"), "PYTHONPATH": str(notebook.ROOT)},
    )  # fmt: skip
    assert done.stdout.strip().endswith(str(tmp_path / "mine")), done.stderr
    assert notebook.output_root().name == "out" or os.environ.get("LRC_OUT")


def test_a_notebook_is_found_in_the_repository_or_in_the_installed_package(tmp_path, monkeypatch):
    assert notebook.notebook_path(NAME) == notebook.ROOT / "notebooks" / f"{NAME}.ipynb"
    monkeypatch.delenv("LRC_OUT", raising=False)
    assert notebook.output_root() == notebook.ROOT / "out"
    monkeypatch.setattr(notebook, "ROOT", tmp_path / "site-packages")
    assert notebook.notebook_path(NAME) == notebook.PACKAGE / "_notebooks" / f"{NAME}.ipynb"
    monkeypatch.chdir(tmp_path)
    assert notebook.output_root() == tmp_path / "out"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("boundary", 'the cell \'lrc = session.run("lrc")\' under "3 Two stages": run it first.'),
        ("ece", "the cell 'def ece("),
        ("no_such_name", ""),
    ],
)
def test_a_reader_who_skipped_a_cell_is_told_which_one(name, said, capsys):
    shell = InteractiveShell()
    path = notebook.notebook_path("04_two_stage_distillation")
    shell.set_custom_exc((NameError,), partial(session_module._skipped, path))
    result = shell.run_cell(name)
    printed = capsys.readouterr().out
    assert result.error_in_exec and "NameError" in printed
    assert (said in printed) if said else "comes from" not in printed
