"""General distillation from text of any size: the run, its id, its cost, and its command."""

import json
import os
import re
from pathlib import Path

import pytest

from lrc_lib import RunSpec, load_profile, run
from lrc_lib.cli import plan
from lrc_lib.cli.commands import build_parser, main
from lrc_lib.cli.general import spec_of
from lrc_lib.cli.plan import cost, once
from lrc_lib.course.notebook import NOTEBOOKS
from lrc_lib.data import corpus
from lrc_lib.data.corpus import estimate
from lrc_lib.errors import InputError
from lrc_lib.runs import spec as spec_module
from lrc_lib.runs.card import _start
from lrc_lib.runs.pool import headline
from lrc_lib.teacher import LiveTeacher

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
    for cached in (spec_module._run_id, corpus.corpus_fingerprint, spec_module._documents):
        cached.cache_clear()


def test_a_packed_run_learns_and_says_what_it_read(packed, out):
    result = run(packed.general_spec(), out, device="cpu")
    metrics, history = result.metrics, result.history
    assert metrics["texts"] == 64 and metrics["sequences"] == metrics["tokens"] / 12
    assert metrics["steps"] == 2 * (metrics["sequences"] // 4) == len(history)
    assert history.perturbed.isna().all() and history.soft.isna().all()
    assert (history.loss == history.layers).all()  # alpha only
    assert history.excess.iloc[-5:].mean() < 0.8 * history.excess.iloc[:5].mean()
    assert headline(metrics) == f"64 texts, {metrics['tokens']:,} tokens"
    (ids,) = (out / "cache").glob("corpus-*/ids.bin")
    assert ids.stat().st_size == 2 * metrics["tokens"]


@pytest.mark.parametrize(
    "change, says",
    [
        (dict(PACKED, general_batch_size=4096), "sequences, less than one batch of 4096"),
        (dict(general_batch_size=65), "gives 64 sequences, less than one batch of 65. Give more"),
    ],
)
def test_a_corpus_smaller_than_one_batch(tiny_spec, tmp_path, change, says):
    with pytest.raises(InputError, match=says):
        run(tiny_spec.replace(**change).general_spec(), tmp_path, device="cpu")
    assert not list(tmp_path.glob("runs/*/history.jsonl"))


def test_answers_are_kept_for_other_losses_if_all_of_them_fit(tiny_spec, tmp_path, monkeypatch):
    asked, call = [], LiveTeacher.__call__

    def spy(self, rows, *args):
        asked.extend(rows)
        return call(self, rows, *args)

    monkeypatch.setattr(LiveTeacher, "__call__", spy)
    spec = tiny_spec.general_spec()
    counts = []
    for out, loss, room in (("a", "cos_nce", 1.0), ("a", "mse", 1.0), ("b", "mse", 1e-9)):
        asked.clear()
        made = run(spec.replace(general_loss=loss, cache_gb=room), tmp_path / out, "cpu")
        counts.append(len(asked))
    assert counts[0] == made.metrics["sequences"] and counts[1] == 0  # read for the second loss
    batch = spec.general_batch_size
    assert counts[2] == made.metrics["steps"] * batch  # asked at each step, and not once more
    assert [path.name for path in (tmp_path / "b").glob("cache/*")] == []


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


def test_pairs_change_what_the_student_reads(tiny_spec, out, tmp_path):
    plain = tiny_spec.general_spec()
    pairs = plain.replace(general_pairs=0.5)
    assert len({s.run_id() for s in (plain, pairs, pairs.replace(general_pairs=1.0))}) == 3
    assert plain.replace(general_pairs=0.0).run_id() == plain.run_id()
    single, both = (run(spec, out, device="cpu").metrics for spec in (plain, pairs))
    assert both["sequences"] == single["sequences"] == both["texts"] == 64
    assert both["tokens"] > 1.3 * single["tokens"]
    assert "32 of 64 rows are pairs" in both["source"] and "pairs" not in single["source"]
    assert cost(pairs).teacher > 1.2 * cost(plain).teacher
    lines = [f"{i} " + "one " * 20 + "." for i in range(4)]  # four passages of two texts, or of one
    ids = set()
    for number, content in enumerate(
        ("\n".join([" ".join(lines[:2]), *lines[2:]]), " ".join(lines))
    ):
        path = tmp_path / f"{number}.txt"
        path.write_text(content)
        ids.add(pairs.replace(general_data=str(path)).run_id())
    assert len(ids) == 2


@pytest.mark.parametrize(
    "change", [dict(general_pairs=1.5), dict(general_pairs=0.5, general_packed=True)]
)
def test_a_share_of_pairs_that_makes_no_sense(change):
    with pytest.raises(InputError, match="general_pairs = .*from 0 to 1, and 0 where"):
        RunSpec(**change)


def test_the_id_of_a_wikipedia_needs_no_hub(tiny_spec, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: pytest.fail("asked"))
    spec = tiny_spec.replace(general_data="wikipedia").general_spec()
    assert spec.packed and spec.replace(general_packed=True).run_id() == spec.run_id()
    assert spec.replace(general_data="wikipedia:20231101.en").run_id() == spec.run_id()
    others = [dict(general_data="wikipedia:20231101.simple"), dict(general_data="wikipedia@abc")]
    ids = {spec.replace(**change).run_id() for change in (*others, dict(general_rows=9))}
    assert len(ids | {spec.run_id()}) == 4


def test_the_estimate_is_near_what_packing_gives(packed, out, tmp_path):
    counted = run(packed.general_spec(), out, device="cpu").metrics["sequences"]
    rows, note = estimate(packed.general_data, 0, 12)
    assert "estimated" in note
    assert counted / 1.6 < rows < counted * 1.6  # a tiny vocabulary: one token per word
    assert estimate(packed.general_data, 16, 12)[0] == pytest.approx(rows / 4, abs=1)
    run_cost = cost(packed.general_spec())
    assert run_cost.steps == 2 * (rows // 4) and run_cost.corpus == 2 * rows * 12


def test_a_corpus_that_two_runs_read_is_counted_once(packed):
    specs = [packed.general_spec(), packed.replace(recipe="bert_m").general_spec()]
    first, second = once({spec: cost(spec) for spec in specs}).values()
    assert first == cost(specs[0]) and first.corpus > second.corpus == 0
    assert second.teacher == 0 < first.teacher  # its answers are kept for both


def test_the_paper_s_plan_needs_no_data_of_glue_no_wikipedia_and_no_hub(
    tmp_path, monkeypatch, capsys, calibrated
):
    for name in ("repo_info", "dataset_info"):
        monkeypatch.setattr(f"huggingface_hub.HfApi.{name}", lambda *_, **__: pytest.fail("asked"))
    profile = load_profile("paper", tasks="rte, cola")
    spec = profile.spec(recipe="general")
    assert (spec.general_epochs, spec.general_batch_size, spec.general_max_length) == (1, 256, 128)
    rows, note = estimate(spec.general_data, spec.general_rows, spec.general_max_length)
    assert 20e6 < rows < 40e6 and "published size" in note
    monkeypatch.setattr(plan, "is_done", lambda *_: False)
    plan.show_plan([NOTEBOOKS["09_glue_results"]], profile, tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert f"{rows // 256:,}" in said and "estimated" in said
    assert "13,950" in said and "48,060" in said  # steps at the paper's epochs
    assert "Nothing was trained" in said and not (tmp_path / "runs").exists()
    assert cost(spec).student + cost(spec).teacher > 0.5e18


def test_a_wikipedia_of_unknown_size_says_so():
    assert "size of 20231101.fr not known here" in estimate("wikipedia:20231101.fr", 0, 128)[1]
    assert 2_000 < estimate("wikipedia", 1000, 128)[0] < 10_000


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
    assert "min here" in said
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
    both = os.pathsep.join(["wiki", tiny_texts, "glue=/some/where"])
    assert _start(packed.replace(general_data=both), {"general": "g"}) == (
        f"g on wiki, {Path(tiny_texts).name}, glue=where"
    )
    wikipedia = packed.replace(general_data="wikipedia:20231101.en")
    assert "wikipedia:20231101.en" in _start(wikipedia, {"general": "g"})
    result = run(packed.general_spec(), out, device="cpu")
    assert headline(result.metrics) == f"64 texts, {result.metrics['tokens']:,} tokens"
