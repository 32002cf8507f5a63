"""General distillation from text of any size: the run, its id, its cost, and its command."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from lrc_lib import RunSpec, load_profile, run, trainee
from lrc_lib import history as history_module
from lrc_lib.cli import plan
from lrc_lib.cli.commands import main
from lrc_lib.cli.plan import cost, once
from lrc_lib.cli.preflight import uses_hub
from lrc_lib.course.notebook import NOTEBOOKS, ROOT
from lrc_lib.data import corpus
from lrc_lib.errors import InputError, UnavailableError
from lrc_lib.runs import spec as spec_module
from lrc_lib.runs.general import estimate
from lrc_lib.runs.pool import headline
from lrc_lib.runs.run import find

PACKED = dict(general_packed=True, general_max_length=12, general_batch_size=4, general_epochs=2)


@pytest.fixture
def packed(tiny_spec):
    """A student whose general run is packed."""
    return tiny_spec.replace(**PACKED, general_lr=3e-3)


@pytest.fixture
def calibrated(monkeypatch):
    monkeypatch.setattr(plan, "calibrate", lambda *_: (1e9, 1e9))


def fresh():
    """Forgets what the process knows about files."""
    for cached in (spec_module._run_id, corpus.corpus_fingerprint, spec_module._texts):
        cached.cache_clear()


def weights(result):
    return {k: v.clone() for k, v in result.student().state_dict().items()}


def test_a_packed_run_learns_and_says_what_it_read(packed, out):
    result = run(packed.general_spec(), out, device="cpu")
    metrics, history = result.metrics, result.history
    assert metrics["texts"] == 64 and metrics["sequences"] == metrics["tokens"] / 12
    assert metrics["steps"] == 2 * (metrics["sequences"] // 4) == len(history)
    assert history.perturbed.isna().all() and history.soft.isna().all()
    assert (history.loss == history.layers).all()  # alpha only
    assert history.excess.iloc[-5:].mean() < 0.8 * history.excess.iloc[:5].mean()
    assert headline(metrics) == f"64 texts, {metrics['tokens']:,} tokens"
    (corpus_folder,) = (out / "cache").glob("corpus-*/ids.bin")
    assert corpus_folder.stat().st_size == 2 * metrics["tokens"]


def test_packed_text_trains_as_the_same_rows_in_memory(packed, out, tmp_path, monkeypatch):
    from dataclasses import replace

    from lrc_lib.runs import build

    spec = packed.general_spec()
    ours, real = run(spec, out, device="cpu"), build.unlabelled_rows

    def in_memory(*arguments):
        rows, facts = real(*arguments)
        return replace(rows, ids=np.array(rows.ids, dtype=np.int32)), facts

    monkeypatch.setattr(build, "unlabelled_rows", in_memory)
    theirs = run(spec, tmp_path, device="cpu")
    assert ours.history.equals(theirs.history)


@pytest.mark.parametrize("at", [5, 20])
def test_an_interrupted_packed_run_goes_on_to_the_bit_identical_result(packed, out, tmp_path, at):
    spec, real = packed.general_spec(), trainee.save_checkpoint
    whole = run(spec, out, device="cpu")

    def die(job, optimizer, done, force=False):
        real(job, optimizer, done, force=True)
        if done >= at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainee, "save_checkpoint", die)
        patch.setattr(history_module, "FLUSH_STEPS", 1)
        with pytest.raises(KeyboardInterrupt):
            run(spec, tmp_path, device="cpu")
    resumed = run(spec, tmp_path, device="cpu")
    ours, theirs = weights(whole), weights(resumed)
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert whole.history.equals(resumed.history)


def full_disk(spec, out, monkeypatch, limit):
    """Train until the disk is full at step 9, by a limit on the size of a file; what was raised."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    real, add = trainee.save_checkpoint, trainee.History.add

    def save(job, optimizer, done, force=False):
        real(job, optimizer, done, force=done in (7, 10))

    def fill(self, step, *rest):
        if step == 9:
            size = limit(self.job.folder)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        add(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(trainee, "save_checkpoint", save)
        patch.setattr(trainee.History, "add", fill)
        patch.setattr(history_module, "FLUSH_STEPS", 1)
        try:
            with pytest.raises((InputError, UnavailableError)) as caught:
                run(spec, out, device="cpu")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert find(spec, out) is None
    return str(caught.value)


def test_a_disk_that_is_full_at_a_checkpoint_loses_nothing(packed, out, tmp_path, monkeypatch):
    spec = packed.general_spec()
    whole = run(spec, out, device="cpu")
    said = full_disk(spec, tmp_path, monkeypatch, lambda folder: 20_000)
    assert "Cannot write the checkpoint" in said and "goes on from there" in said
    assert not list(tmp_path.glob("runs/*/*.partial"))  # room given back
    steps, add = [], trainee.History.add

    def spy(self, step, *rest):
        steps.append(step)
        add(self, step, *rest)

    monkeypatch.setattr(trainee.History, "add", spy)
    resumed = run(spec, tmp_path, device="cpu")
    assert steps[0] == 7  # from the last whole checkpoint
    assert whole.history.equals(resumed.history)


def test_a_disk_that_is_full_in_the_middle_of_the_log_loses_nothing(
    packed, out, tmp_path, monkeypatch
):
    spec = packed.general_spec()
    whole = run(spec, out, device="cpu")
    said = full_disk(
        spec, tmp_path, monkeypatch, lambda f: (f / "history.jsonl").stat().st_size + 9
    )
    assert "Cannot write the run" in said
    (log,) = tmp_path.glob("runs/*/history.jsonl")
    assert not log.read_text().endswith("\n")  # torn
    assert whole.history.equals(run(spec, tmp_path, device="cpu").history)


@pytest.mark.parametrize(
    "change, says",
    [
        (
            dict(PACKED, general_batch_size=4096),
            "sequences, less than one batch of 4096",
        ),
        (dict(general_batch_size=65), "gives 64 sequences, less than one batch of 65. Give more"),
    ],
)
def test_a_corpus_smaller_than_one_batch(tiny_spec, tmp_path, change, says):
    with pytest.raises(InputError, match=says):
        run(tiny_spec.replace(**change).general_spec(), tmp_path, device="cpu")
    assert not list(tmp_path.glob("runs/*/history.jsonl"))


def test_ids_follow_from_the_text_and_from_packing(packed, tiny_texts, tmp_path):
    general = packed.general_spec()
    plain = packed.replace(general_packed=False).general_spec()
    assert general.run_id() != plain.run_id()
    built_in = RunSpec(teacher="some/teacher", general_data="nli")
    apart = built_in.replace(general_packed=True)
    assert apart.general_spec().run_id() != built_in.general_spec().run_id()
    assert apart.run_id() != built_in.run_id()
    assert apart.replace(recipe="lrc_1").run_id() == built_in.replace(recipe="lrc_1").run_id()
    path = tmp_path / "elsewhere.txt"
    path.write_bytes(open(tiny_texts, "rb").read())
    moved = general.replace(general_data=str(path))
    assert moved.run_id() == general.run_id()
    assert packed.replace(general_data=str(path)).run_id() == packed.run_id()
    assert general.replace(general_rows=9).run_id() != general.run_id()
    path.write_text(path.read_text() + "\none more")
    fresh()
    assert moved.run_id() != general.run_id()


def test_the_id_of_a_wikipedia_needs_no_hub(tiny_spec, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: pytest.fail("asked"))
    spec = tiny_spec.replace(general_data="wikipedia").general_spec()
    assert spec.packed and spec.replace(general_packed=True).run_id() == spec.run_id()
    assert spec.replace(general_data="wikipedia:20231101.en").run_id() == spec.run_id()
    others = [dict(general_data="wikipedia:20231101.simple"), dict(general_data="wikipedia@abc")]
    ids = {spec.replace(**change).run_id() for change in (*others, dict(general_rows=9))}
    assert len(ids | {spec.run_id()}) == 4


def test_preflight_looks_at_the_text():
    spec = RunSpec(general_data="wikipedia")
    assert uses_hub([spec]) and uses_hub([spec.general_spec()])
    assert not uses_hub([spec.replace(recipe="finetune"), spec.teacher_spec(), RunSpec()])


def test_the_estimate_is_near_what_packing_gives(packed, out, tmp_path):
    counted = run(packed.general_spec(), out, device="cpu").metrics["sequences"]
    rows, length, note = estimate(packed.general_spec())
    assert length == 12 and "estimated" in note
    assert counted / 1.6 < rows < counted * 1.6  # a tiny vocabulary: a token a word
    assert estimate(packed.replace(general_rows=16).general_spec())[0] == pytest.approx(rows / 4, 1)
    run_cost = cost(packed.general_spec())
    assert run_cost.steps == 2 * (rows // 4) and run_cost.corpus == 2 * rows * 12


def test_a_corpus_that_two_runs_read_is_counted_once(packed):
    specs = [packed.general_spec(), packed.replace(recipe="bert_m").general_spec()]
    first, second = once({spec: cost(spec) for spec in specs}).values()
    assert first == cost(specs[0]) and first.corpus > second.corpus == 0
    assert second.teacher == cost(specs[1]).teacher > 0


def test_the_paper_s_plan_has_wikipedia_and_asks_no_hub(tmp_path, monkeypatch, capsys, calibrated):
    from lrc_lib.cli.terminal import make_console

    for name in ("repo_info", "dataset_info"):
        monkeypatch.setattr(f"huggingface_hub.HfApi.{name}", lambda *_, **__: pytest.fail("asked"))
    profile = load_profile("paper", tasks="rte")
    spec = profile.spec(recipe="general")
    assert (spec.general_epochs, spec.general_batch_size, spec.general_max_length) == (1, 256, 128)
    rows, _, note = estimate(spec)
    assert 20e6 < rows < 40e6 and "published size" in note
    monkeypatch.setattr(plan, "is_done", lambda *_: False)
    plan.show_plan(make_console(), [NOTEBOOKS["09_glue_results"]], profile, tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert f"{rows // 256:,}" in said and "estimated" in said
    assert cost(spec).student + cost(spec).teacher > 0.5e18


def test_a_wikipedia_of_unknown_size_says_so():
    _, _, note = estimate(RunSpec(general_data="wikipedia:20231101.fr").general_spec())
    assert "size of 20231101.fr not known here" in note
    part, _, _ = estimate(RunSpec(general_data="wikipedia", general_rows=1000).general_spec())
    assert 2_000 < part < 10_000


@pytest.fixture
def options(tiny_spec, tiny_texts):
    """The command that makes the packed run of `packed`."""
    names = "student_layers student_hidden student_intermediate student_heads".split()
    values = {name: getattr(tiny_spec, name) for name in names} | PACKED | dict(general_lr=3e-3)
    values.pop("general_packed")
    settings = [f"{name}={value}" for name, value in values.items()]
    return ["general", "--text", tiny_texts, "--teacher", tiny_spec.teacher, "--set", *settings]


def test_the_command_tells_the_cost_and_trains_the_run_that_students_start_from(
    options, packed, out, capsys, calibrated
):
    assert main([*options, "--out", str(out), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    facts = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert facts["id"] == packed.general_spec().run_id() and facts["texts"] == 64
    assert "GFLOP/s" in said and "min here" in said
    settings = said.rstrip().splitlines()[-1].split("--set ")[1].split()
    own = load_profile("laptop", settings=settings).settings
    assert RunSpec(**own).general_spec() == packed.general_spec()
    student = run(packed.replace(learning_rate=1e-12, epochs=1), out, device="cpu")
    assert student.metrics["general"] == facts["id"]
    assert main([*options, "--out", str(out), "--device", "cpu", "--plan"]) == 0
    assert "1 of 1 run(s) are in the store" in capsys.readouterr().out


def test_the_plan_trains_and_packs_nothing(options, tmp_path, capsys, calibrated):
    assert main([*options, "--out", str(tmp_path), "--plan"]) == 0
    assert "min here" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_the_command_takes_a_profile_s_values_and_the_other_loss(tiny_texts, capsys):
    from lrc_lib.cli.commands import build_parser
    from lrc_lib.runs.general import spec_of

    line = ["general", "--text", tiny_texts, "--profile", "smoke", "--set", "general_loss=mse"]
    spec = spec_of(build_parser().parse_args(line))
    smoke = load_profile("smoke", settings=[f"general_data={tiny_texts}", "general_packed=true"])
    assert spec == smoke.spec(recipe="bert_m").general_spec()
    line = ["general", "--wikipedia", "--config", "20231101.simple", "--revision", "abc"]
    spec = spec_of(build_parser().parse_args([*line, "--limit", "500"]))
    assert (spec.general_data, spec.general_rows) == ("wikipedia:20231101.simple@abc", 500)
    assert (spec.general_batch_size, spec.general_max_length, spec.general_epochs) == (256, 128, 1)


@pytest.mark.parametrize(
    "arguments, code, says",
    [
        (["--text", "none.txt"], 2, "There is no text 'none.txt'"),
        (["--text", "wikipedia"], 2, "There is no text 'wikipedia'"),
        (["--text", "{empty}"], 2, "holds no text"),
        (["--text", "{binary}"], 2, "binary.txt, line 1: found a NUL byte"),
        (["--text", "{texts}", "--config", "20231101.de"], 2, "go with --wikipedia"),
        (["--text", "{texts}", "--limit", "-3"], 2, "--limit must be 0"),
        (["--text", "{texts}", "--set", "general_lrr=1"], 2, "Did you mean 'general_lr'"),
        (["--text", "{texts}"], 2, "less than one batch of 256"),
        (["--wikipedia"], 3, "--offline is set.*--text FILE"),
    ],
)
def test_wrong_input_ends_with_its_code(
    arguments, code, says, tiny_spec, tiny_texts, tmp_path, capsys, monkeypatch, calibrated
):
    import re

    monkeypatch.setenv("LRC_OFFLINE", "1")
    places = {"texts": tiny_texts}
    for name, content in (("empty", b""), ("binary", b"\x00\x01\x02")):
        places[name] = tmp_path / f"{name}.txt"
        places[name].write_bytes(content)
    arguments = [word.format(**places) for word in arguments]
    command = ["general", *arguments, "--teacher", tiny_spec.teacher, "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "out")]) == code
    assert re.search(says, capsys.readouterr().err)


def test_fetch_packs_what_a_profile_reads(tiny_texts, tiny_teacher, tmp_path, capsys):
    profile = tmp_path / "own.toml"
    profile.write_text(
        'title = "x"\ntasks = ["nli"]\nseeds = 1\n[run]\n'
        f'teacher = "{tiny_teacher}"\ngeneral_data = "{tiny_texts}"\ngeneral_packed = true\n'
        "general_batch_size = 4\ngeneral_max_length = 12\n"
    )
    assert main(["fetch", "--profile", str(profile), "--out", str(tmp_path / "out")]) == 0
    assert "Lines of 'texts.txt'" in capsys.readouterr().out
    assert list((tmp_path / "out" / "cache").glob("corpus-*/ids.bin"))


def test_the_card_and_the_headline_name_the_text(packed, out, tiny_texts):
    from pathlib import Path

    from lrc_lib.runs.card import _start
    from lrc_lib.runs.pool import headline

    both = os.pathsep.join([tiny_texts, "/somewhere/else.txt"])
    assert _start(packed.replace(general_data=both), {"general": "g"}) == (
        f"g on {Path(tiny_texts).name}, else.txt"
    )
    wikipedia = packed.replace(general_data="wikipedia:20231101.en")
    assert "wikipedia:20231101.en" in _start(wikipedia, {"general": "g"})
    result = run(packed.general_spec(), out, device="cpu")
    assert headline(result.metrics) == f"64 texts, {result.metrics['tokens']:,} tokens"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from lrc_lib.cli.commands import main\n"
        "try: main(['general', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--wikipedia" in done.stdout, done.stderr
