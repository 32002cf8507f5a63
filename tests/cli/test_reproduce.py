"""`reproduce`: its command line, how notebooks are executed and judged, and how it ends."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from lrc_lib import RunSpec
from lrc_lib.cli import child, execute, preflight, unchanged
from lrc_lib.cli.commands import build_parser, main
from lrc_lib.cli.execute import Order, child_environment, execute_all
from lrc_lib.cli.handlers import HANDLERS
from lrc_lib.cli.options import complete
from lrc_lib.cli.reproduce import parameters, say_if_in_fp32
from lrc_lib.course.notebook import NOTEBOOKS, find_notebook
from lrc_lib.errors import InputError, UnavailableError
from lrc_lib.runs.profiles import load_profile

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = 'OUT = ""  # KEY=VALUE in a comment\nNAME = ""'
FINISH = """
import json, os, sys, pathlib
path = pathlib.Path(OUT) / "results" / (NAME + ".json")
path.parent.mkdir(parents=True, exist_ok=True)
record = {"schema": 1, "token": os.environ["LRC_TOKEN"], "python": sys.executable}
record["headless"] = [os.environ["LRC_HEADLESS"], os.environ["MPLBACKEND"], sys.stdin.isatty()]
record |= {"provenance": {"peak_memory_mb": 123}, "figures": []}
path.write_text(json.dumps(record))
"""
STALE = FINISH.replace('os.environ["LRC_TOKEN"]', '"of another run"')
CELLS = {
    "late": ["import time\ntime.sleep(900)", FINISH],
    "good": ["1 + 1", "", "# a comment only", FINISH],
    "error": ["x = 1", "raise ValueError('<b>bad\\x00</b>')", FINISH],
    "finishes_then_leaves": [FINISH, "import sys\nsys.exit(0)", "2"],
    "killed": ["import os\nos._exit(137)", FINISH],
    "killed_last": [FINISH, "import os\nos._exit(137)"],
    "lives": [
        "import time\nwhile True:\n    open(OUT + '/alive', 'a').write('.'); time.sleep(0.1)"
    ],
    "stale_result": [STALE],
    "no_parameters": ["4"],
}
SECONDS = {"late": 20}


class Screen:
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def start(self, key):
        self.lines.append(f"start {key}")

    def end(self, key, status, text=""):
        self.lines.append(f"{status} {key} {text}")

    def say(self, text):
        self.lines.append(text)


def write_notebook(folder, name):
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS[name]]
    if name != "no_parameters":
        tags = {"tags": ["parameters"]}
        cells.insert(0, nbformat.v4.new_code_cell(SETTINGS, metadata=tags))
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def order(folder, out, name):
    source = write_notebook(folder, name)
    return Order(name, source, {"OUT": str(out), "NAME": name}, SECONDS.get(name, 300), "inputs")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """All throwaway notebooks, executed side by side, in a folder whose name holds braces, with a
    kernelspec that leads astray."""
    folder = tmp_path_factory.mktemp("{source} here")
    out = tmp_path_factory.mktemp("{out} here")
    hijack = folder / "jupyter" / "kernels" / "python3"
    hijack.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}
    (hijack / "kernel.json").write_text(json.dumps(spec))
    environment = child_environment(1, offline=True) | {"JUPYTER_PATH": str(folder / "jupyter")}
    screen = Screen()
    orders = [order(folder, out, name) for name in CELLS if name != "lives"]
    return execute_all(orders, out, environment, 2, screen), out, screen.lines


@pytest.mark.parametrize(
    "name, cells, says",
    [
        ("error", [3], "ValueError: <b>bad\u2400</b>"),
        ("finishes_then_leaves", [3], "SystemExit: 0"),
        ("killed", (2, 3), "the kernel died"),  # a race: whether cell 2 got its number first
        ("late", None, "took longer than"),
        ("stale_result", None, "did not write"),
        ("no_parameters", None, "was not executed"),
    ],
)
def test_a_failed_notebook_is_seen_and_set_apart(executed, name, cells, says):
    executions, out, lines = executed
    execution = executions[name]
    assert execution.status == "failed" and says in execution.message
    assert cells is None or execution.cell in cells
    assert not (out / "notebooks" / f"{name}.ipynb").exists()
    assert (out / "notebooks" / f"{name}.failed.ipynb").exists() == (name != "no_parameters")
    assert any(line.startswith(f"FAILED {name}") for line in lines)


def test_a_kernel_killed_in_the_last_cell_is_seen(executed):
    """Whether the cell got its number before the kernel died is a race: either message is right."""
    executions, out, _ = executed
    execution = executions["killed_last"]
    assert execution.status == "failed"
    assert (execution.cell, "the kernel died" in execution.message) == (3, True) or (
        execution.cell is None and "ended with code" in execution.message
    )
    assert not (out / "notebooks" / "killed_last.ipynb").exists()


def test_the_cell_and_its_traceback_are_shown(executed):
    text = "\n".join(executed[2])
    assert "> raise ValueError" in text and "\x1b" not in text
    assert "0 cells tagged 'parameters'" in text


def test_a_good_notebook_ran_in_this_interpreter_without_a_display(executed):
    executions, out, _ = executed
    assert executions["good"].status == "ok", executions["good"]
    record = json.loads((out / "results" / "good.json").read_text())
    assert os.path.samefile(record["python"], sys.executable)
    assert record["headless"] == ["1", "agg", False]
    notebook = json.loads((out / "notebooks" / "good.ipynb").read_text())
    assert "papermill" not in json.dumps(notebook["metadata"])
    assert (out / "notebooks" / "good.key").read_text()
    assert executions["good"].seconds > 0 and executions["good"].peak_mb == 123


@pytest.mark.parametrize(
    "changed",
    ["", "source", "parameters", "inputs", "results/a.json", "notebooks/a.ipynb", "a.png"],
)
def test_whatever_changes_a_notebook_is_executed_again(tmp_path, monkeypatch, changed):
    monkeypatch.setattr(execute, "execute", lambda *_: execute.Execution("a", "ok"))
    for folder in ("results", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "results/a.json").write_text('{"figures": [{"file": "../a.png"}]}')
    for name in ("notebooks/a.ipynb", "a.png", "source"):
        (tmp_path / name).write_text("as it was")
    before = Order("a", tmp_path / "source", {"SEEDS": 0}, 1, "0123")
    unchanged.write_key(before, tmp_path)
    given = {"inputs": {"inputs": "4567"}, "parameters": {"parameters": {"SEEDS": 1}}}
    if (path := tmp_path / changed).is_file():
        path.write_text(path.read_text().replace("as it was", "edited") + " ")
    after = replace(before, **given.get(changed, {}))
    done = execute_all([after], tmp_path, {}, 1, screen := Screen())["a"]
    assert done.status == "ok" and done.message == ("" if changed else "kept, nothing changed")
    assert screen.lines == (["start a", "done a "] if changed else ["kept a nothing changed"])
    assert not unchanged.is_kept(replace(before, inputs=""), tmp_path)
    (tmp_path / "a.png").unlink()
    assert not unchanged.is_kept(before, tmp_path)


def test_inputs_follow_from_facts_store_and_packages(tmp_path, monkeypatch):
    def now(threads=1):
        return unchanged.shared_inputs(tmp_path, {"threads": threads})

    first = now()
    assert now() == first != now(2)
    (tmp_path / "runs/x").mkdir(parents=True)
    (tmp_path / "runs/x/manifest.json").write_text("{}")
    assert (second := now()) != first
    monkeypatch.setattr(unchanged.importlib.metadata, "distributions", lambda: [])
    assert now() != second


def test_no_partial_file_is_left(executed):
    left = {path.name for path in (executed[1] / "notebooks").iterdir()}
    assert not [name for name in left if "partial" in name]


def wait_for(path):
    while not path.exists():
        time.sleep(0.1)


def test_stopping_ends_the_child_and_removes_its_partial_file(tmp_path):
    stop, notebook = threading.Event(), order(tmp_path, tmp_path, "lives")
    begun = threading.Thread(target=lambda: (wait_for(tmp_path / "alive"), stop.set()))
    begun.start()
    execution = execute.execute(notebook, tmp_path, child_environment(1, offline=True), stop)
    begun.join()
    assert execution.status == "skipped"
    assert list((tmp_path / "notebooks").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_notebook_ends_with_the_process_that_executes_it(tmp_path, how):
    notebook, alive = order(tmp_path, tmp_path, "lives"), tmp_path / "alive"
    code = (
        "import os, threading; from pathlib import Path; from lrc_lib.cli.execute import *\n"
        f"source, parameters = Path({str(notebook.source)!r}), {notebook.parameters!r}\n"
        "order = Order('lives', source, parameters, 900, '')\n"
        f"execute(order, Path({str(tmp_path)!r}), dict(os.environ), threading.Event())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_for(alive)
    parent.send_signal(how)
    parent.wait()
    sizes = []
    while len(sizes) < 6 and (not sizes or sizes[-1] != alive.stat().st_size):
        sizes.append(alive.stat().st_size)
        time.sleep(1)
    assert sizes[-1] == alive.stat().st_size, "it lives after 5 seconds"


def test_one_reproduce_at_a_time_in_an_output_folder(tmp_path, capsys):
    with preflight.claim(tmp_path):
        assert main(["reproduce", "--profile", "smoke", "--out", str(tmp_path)]) == 2
    assert "another reproduce.py is at work there; wait" in capsys.readouterr().err
    with preflight.claim(tmp_path):
        pass


def test_a_setting_may_hold_a_space(tmp_path):
    folder = str(tmp_path / "my teacher")
    options = build_parser().parse_args(["reproduce", "--set", f"teacher={folder}", "epochs=2"])
    complete(options)
    given = parameters(options, tmp_path)["SETTINGS"]  # what `start(settings=...)` takes
    assert load_profile("smoke", given).settings == {"teacher": folder, "epochs": 2}


def test_notebooks_keep_the_threads_that_the_user_set(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert child_environment(2, offline=False)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert child_environment(2, offline=False)["OMP_NUM_THREADS"] == "7"


def test_help_and_list_are_quick_and_import_nothing_heavy():
    code = (
        "import sys, time; from lrc_lib.cli.commands import main\n"
        "assert main(['reproduce', '--list']) == 0\n"
        "for command in ('reproduce', 'general', 'augment'):\n"
        "    try: main([command, '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'papermill', 'tqdm', 'numpy', 'pandas', 'datasets'}\n"
        "assert not heavy & set(sys.modules)\n"
        "assert time.process_time() < 2"  # 0.1 here; other processes do not count
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name, notebook in NOTEBOOKS.items():
        assert name in done.stdout and notebook.question in done.stdout
    for said in ("exit codes", "--wikipedia", "--glove FILE"):
        assert said in done.stdout


def test_reproduce_py_is_the_command_of_the_package():
    helps = [
        subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, capture_output=True).stdout
        for command in (["reproduce.py"], ["-m", "lrc_lib", "reproduce"])
    ]
    assert helps[0] == helps[1] and b"--glue-dir" in helps[0]


def test_commands_share_their_options():
    line = (
        "--profile own.toml --task rte --task cola mrpc --data-dir d --seeds 2 --set a=1 --set b=2"
    )
    for command in ("reproduce", "plan", "fetch"):
        options = build_parser().parse_args([command, *line.split()])
        assert options.task == ["rte", "cola", "mrpc"] and options.settings == ["a=1", "b=2"]
        assert options.data == str(Path("d").resolve())
        assert options.profile == str(Path("own.toml").resolve())
        with pytest.raises(SystemExit):
            build_parser().parse_args([command, "--glue-dir", "a", "--data-dir", "b"])


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--profile", "latop"], "Did you mean 'laptop'"),
        (["--only", "03_two_stage"], "Did you mean '04_two_stage_distillation'"),
        (["--only", "99"], "Unknown notebook '99'"),
        (["--set", "epoch=2"], "Did you mean 'epochs'? Near it: epochs, teacher_epochs"),
        (["--device", "gpu"], "auto, cpu, cuda or mps"),
        (["--jobs", "0"], "--jobs takes 1 or more, not 0."),
        (["--seeds", "0"], "--seeds takes 1 or more, not 0."),
        (["--first-seed", "-1"], "--first-seed takes 0 or more, not -1."),
        (["--limit", "0"], "--limit takes more than 0 minutes"),
        (["--glue-dir", "/no/such/dir", "--task", "rte"], "no folder '/no/such/dir'"),
        (["--profile", "smoke", "--task", "rte"], "--glue-dir DIR"),
    ],
)
def test_wrong_input_ends_with_code_2_and_says_what_to_do(arguments, says, tmp_path, capsys):
    assert main(["reproduce", *arguments, "--out", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


def test_cuda_without_cuda_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["reproduce", "--device", "cuda", "--out", str(tmp_path)]) == 2
    assert "sees no CUDA GPU" in capsys.readouterr().err


def test_runs_that_the_store_has_in_fp32_only_are_named(learned, out, capsys):
    spec = learned.spec.replace(precision="bf16")
    say_if_in_fp32({"one": spec, "other": spec.replace(seed=77)}, out)
    says = (
        "The store holds 1 of these runs in fp32. They train again, in bf16; --set precision=fp32"
    )
    assert capsys.readouterr().out == f"{says} reads them.\n"
    say_if_in_fp32({"one": learned.spec}, out)
    assert not capsys.readouterr().out


def test_an_output_folder_that_cannot_be_written_is_refused_first(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["reproduce", "--profile", "smoke", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "Cannot write to the output folder" in capsys.readouterr().err


def test_a_full_disk_is_refused_before_training(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=300_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    preflight.check_space(tmp_path, 50e6)
    with pytest.raises(UnavailableError, match="0.30 GB free, but about 0.40 GB"):
        preflight.check_space(tmp_path, 200e6)


@pytest.mark.parametrize("number, code", [(errno.ENOSPC, 3), (errno.EIO, 3), (errno.ENOENT, None)])
def test_a_disk_that_refuses_anywhere_gives_one_sentence(number, code, monkeypatch, capsys):
    def refuse(options):
        raise OSError(number, os.strerror(number), "/a/b")

    monkeypatch.setitem(HANDLERS, "merge", refuse)
    with nullcontext() if code else pytest.raises(FileNotFoundError):
        assert main(["merge", "x", "--into", "y"]) == code
    said = capsys.readouterr().err
    assert not code or said.startswith(f"error: '/a/b': {os.strerror(number)}. What was finished")


@pytest.mark.parametrize("word", ["04", "4", "04_two_stage_distillation.ipynb"])
def test_notebooks_are_found_by_number_and_name(word):
    assert find_notebook(word).name == "04_two_stage_distillation"


def test_only_declared_parameters_are_passed(tmp_path):
    path = write_notebook(tmp_path, "good")
    with pytest.raises(InputError, match="Unknown parameter.*Known: OUT, NAME"):
        child.execute_notebook(str(path), str(tmp_path / "x.ipynb"), {"c=1;import os": 1})


def test_the_notebooks_take_exactly_the_parameters_that_are_passed(tmp_path):
    options = build_parser().parse_args(["reproduce", "--seeds", "5", "--first-seed", "10"])
    complete(options)
    names = list(given := parameters(options, tmp_path))
    assert given["SEEDS"] == "10-14"  # what `start(seeds=...)` takes
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert child.parameter_names(path) == names, path.name


def test_fresh_sets_runs_aside_and_loses_nothing(tmp_path):
    (tmp_path / "runs" / "a" / "student").mkdir(parents=True)
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "cache" / "a-mean-1").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.key").write_text("")
    preflight.set_aside(tmp_path, {"a": None, "c": None})
    assert not (tmp_path / "runs" / "a").exists() and (tmp_path / "runs" / "b").exists()
    assert list(tmp_path.glob("set_aside/*/a/student"))
    assert not (tmp_path / "cache" / "a-mean-1").exists()
    assert not (tmp_path / "notebooks" / "a.key").exists()


@pytest.mark.parametrize(
    "asked, spec",
    [
        (False, RunSpec()),
        (False, RunSpec(teacher=str(ROOT))),
        (True, RunSpec(data="hub", task="rte")),
        (True, RunSpec(teacher="google-bert/bert-base-uncased")),
        (False, RunSpec(augment_mlm="some/model")),  # without copies it is not asked
        (True, RunSpec(augment=2, augment_mlm="some/model")),
        (False, RunSpec(augment=2, augment_mlm=str(ROOT))),
        (True, RunSpec(general_data="wikipedia")),
        (True, RunSpec(general_data="wikipedia").general_spec()),
        (False, RunSpec(general_data="wikipedia", recipe="finetune")),
        (False, RunSpec(general_data="wikipedia").teacher_spec()),
    ],
)
def test_the_hub_is_needed_only_where_something_comes_from_it(asked, spec):
    assert preflight.uses_hub([RunSpec(), spec]) == asked


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal for one process")
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path, tiny_spec):
    profile = tmp_path / "own.toml"
    keys = ("student_layers", "student_hidden", "student_intermediate", "student_heads")
    values = "".join(f"{key} = {getattr(tiny_spec, key)}\n" for key in keys)
    profile.write_text(
        f'title = "x"\ntasks = ["{tiny_spec.task}"]\nseeds = 1\ndata = "{tiny_spec.data}"\n[run]\n'
        f'teacher = "{tiny_spec.teacher}"\nepochs = 100000\n{values}'
    )
    command = [sys.executable, "reproduce.py", "--profile", str(profile), "--only", "04"]
    child = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out"), "--jobs", "1"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        # a shell that runs the tests in the background has made them deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        for line in child.stdout:
            if line.startswith("start"):
                break
        time.sleep(2)
        os.killpg(child.pid, signal.SIGINT)
        _, errors = child.communicate(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 130, errors
    assert "the same command continues" in errors and "Traceback" not in errors
