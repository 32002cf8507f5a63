"""Hostile input: every reader gives a valid object, or an error of ours that is safe to print.

A case is a good file with pieces cut out and hostile ones put in, or values of any type under the
right names. The long version: LRC_FUZZ=10000 python -m pytest tests/test_fuzz.py (cases a reader).
"""

import ast
import io
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from chaos.record import keep, made_with
from glue_files import write_glue
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from lrc_lib import RunSpec, load_profile
from lrc_lib.cli import report
from lrc_lib.cli.execute import Execution, Order
from lrc_lib.cli.merge import _examine
from lrc_lib.cli.unchanged import is_kept
from lrc_lib.cli.verify import verify
from lrc_lib.data import corpus, files, glue_dir, load_task_data, own_task
from lrc_lib.data.manifest import MANIFEST, fault, sealed, write_manifest
from lrc_lib.data.resumable import _begun, write_parts
from lrc_lib.data.rows import check_rows
from lrc_lib.data.tasks import GLUE, TASKS
from lrc_lib.data.texts import load_documents
from lrc_lib.data.vectors import read_glove
from lrc_lib.errors import MOST_BYTES, InputError, LrcError, UnavailableError
from lrc_lib.models import POSITIONS, layer_pairs, local_config, most_tokens
from lrc_lib.runs.profiles import KEYS
from lrc_lib.runs.spec import FIELDS
from lrc_lib.runs.store import RunResult, finished

CASES = int(os.environ.get("LRC_FUZZ", 30))
SECONDS = 2  # of the processor, a case
DIGITS = "9" * 5000
NOT_FINITE = ("nan", "inf", "-inf", "1e999", -math.inf)
tried = Counter()
fuzz = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    derandomize="LRC_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

HOSTILE = [
    *(b"", b"\0", b"\r", b"\n", b"\r\n", b"\t", b",", b";", b'"', b"'", b"\\", b"=", b"[", b"{"),
    *(
        b"\x1b[31m",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\xbd",
        b"\\ud83d",
        b"\\u0000",
        b"x" * 9999,
    ),
    *(b"NaN", b"Infinity", b"-1", b"1e999", b"null", b"true", b"[]", b"{}", b"1.5", b'"text"'),
    *(
        DIGITS.encode(),
        b"0x" + b"f" * 5000,
        b"[" * 9999,
        b'{"a":' * 9999,
        "٣²\u2028\u202e".encode(),
    ),
]
PIECES = (
    st.sampled_from(HOSTILE)
    | st.binary(max_size=8)
    | st.text(max_size=8).map(lambda text: text.encode(errors="surrogatepass"))
)
WORDS = st.text(max_size=8) | st.sampled_from(
    ["\ud83d", "\0", "\x1b[31m", "x" * 9999, DIGITS, "nan"]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([-1, 0, 1, 5, 2**53 + 1, 10**4000])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw, good: bytes):
    """The bytes of a good file with up to four cuts, each filled with another piece."""
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(good)))
        end = draw(st.integers(start, min(len(good), start + 12)))
        good = good[:start] + draw(PIECES) + good[end:]
    return good


def tables(names):
    """Values of any type, most of them under one of the names."""
    return st.dictionaries(st.sampled_from(sorted(names)) | WORDS, VALUES, max_size=4)


def toml(value) -> str:
    """A value as TOML; what TOML has no word for as a text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return str(value).lower() if isinstance(value, bool | float) else json.dumps(value or "")


def survives(read, *arguments):
    """What the reader gives; None for an error of ours, which must be safe to print."""
    tried[os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split(" ")[0].split("[")[0]] += 1
    start = time.process_time()
    try:
        return read(*arguments)
    except LrcError as error:
        assert str(error).isprintable() and len(str(error).encode()) <= MOST_BYTES
    finally:
        assert time.process_time() - start < SECONDS


CSV = b'text,label\n"fine, ""warm""",good\r\ndull,bad\n'
TSV = b"sentence1\tsentence2\tscore\na b\tc\t1.5\nd\te\t-2\n"
JSONL = b'{"text": "fine \\u00e9", "label": 10}\n\n{"text": "dull", "label": 9}\n'
TOML = b'name = "own"\ntext = ["text"]\nlabels = ["good", "bad"]\nmetrics = ["f1"]\nepochs = 3\n'
PROFILE = b"""title = "x"
tasks = ["nli", "reviews"]
seeds = 2
control_seeds = 1
own_seeds = true
[run]
epochs = 3
[task.nli]
precision = "auto"
[recipe.lrc]
clip = 2.0
[recipes]
default = ["lrc"]
[select]
rows = 20
learning_rate = [1e-4, 3e-4]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module", autouse=True)
def counted(request):
    """After a long session without a failure, results/reliability.json has the calls of readers."""
    yield
    if "LRC_FUZZ" in os.environ and not request.session.testsfailed:
        made = made_with(f"LRC_FUZZ={CASES} python -m pytest tests/test_fuzz.py")
        for name, cases in tried.items():
            keep(name, {"cases": cases, "made": made}, among="fuzz")


def test_a_message_is_one_short_line_without_control_characters(tmp_path):
    label = "\x1b[31mred\x1b[0m\ud83d\r" + "x" * 10**6
    for kind in (InputError, UnavailableError):
        message = str(kind(f"a.csv, line 1: found {label}. Use a label."))
        assert message.startswith(r"a.csv, line 1: found \x1b[31mred\x1b[0m\ud83d\rxx")
        assert message.endswith("xx. Use a label.") and len(message.encode()) <= MOST_BYTES
    assert str(InputError("'café, 中文' is good as it is.")) == "'café, 中文' is good as it is."
    (tmp_path / "train.csv").write_text(f"te{label[:8]}xt,label\na,b\n")
    (tmp_path / "dev.csv").write_bytes(CSV)
    call = [sys.executable, "-m", "lrc_lib", "reproduce", "--plan", "--data-dir", str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 2 and "\x1b" not in done.stderr and r"\x1b[31m" in done.stderr


SHARES = ("dropout", "warmup", "stage_boundary", "general_pairs")
WRONG = [(name, value) for name in SHARES for value in ("nan", -1, 5)]
WRONG += [(name, value) for name, f in FIELDS.items() if f.type is float for value in NOT_FINITE]
WRONG += [(name, -1) for name in FIELDS if name.endswith("seed")] + [
    ("seed", 2**63),
    ("seed", True),
]
WRONG += [("task", ["rte"]), ("data", "\ud83d"), ("drop_last", None)]


@pytest.mark.parametrize("name, value", WRONG)
def test_every_value_of_a_spec_is_in_its_range(name, value):
    with pytest.raises(InputError, match=name):
        RunSpec().replace(**{name: value})


@pytest.mark.parametrize("seed", [2**53 + 1, str(2**53 + 1), f"{2**53 + 1}.0", 2**63 - 1])
def test_a_long_seed_is_exact(seed):
    assert RunSpec().replace(seed=seed).seed == int(str(seed).removesuffix(".0"))
    assert load_profile("smoke", [f"general_seed={seed}"]).spec().general_seed > 2**53


@pytest.mark.parametrize("text", ["[" * 9999, '{"seed": ' + DIGITS + "}", '{"a":' * 9999, "[]"])
def test_a_spec_that_no_parser_reads(text):
    with pytest.raises(InputError, match="[sS]pec is"):
        RunSpec.from_json(text)


def read_own(folder):
    data = load_task_data(own_task(str(folder)).name, str(folder))
    for rows in (data.train, *data.dev.values()):
        check_rows(rows, data.task, "here")
        assert all(text.encode() for row in rows for text in row[:2] if text is not None)
    return data


@pytest.mark.parametrize("suffix, good", [("csv", CSV), ("tsv", TSV), ("jsonl", JSONL)])
def test_own_files(suffix, good, folder):
    place = folder / suffix
    place.mkdir()

    @fuzz
    @example(good)
    @given(damaged(good))
    def check(content):
        (place / f"train.{suffix}").write_bytes(content)
        (place / f"dev.{suffix}").write_bytes(content if len(content) % 2 else good)
        assert survives(read_own, place) or content != good

    check()


def test_task_toml(folder):
    place = folder / "task"
    place.mkdir()
    for name in ("train", "dev"):
        (place / f"{name}.csv").write_bytes(CSV)
    lines = tables(files.SETTINGS).map(lambda table: "\n".join(map_lines(table)).encode())

    @fuzz
    @example(TOML)
    @given(damaged(TOML) | lines)
    def check(content):
        (place / "task.toml").write_bytes(content)
        assert survives(read_own, place) or content != TOML

    check()


def map_lines(table: dict) -> list[str]:
    return [f"{json.dumps(key)} = {toml(value)}" for key, value in table.items()]


@pytest.mark.parametrize("name", GLUE)
def test_glue(name, folder):
    write_glue(folder, name)
    task, path = TASKS[name], next(glue_dir.find_folder(folder, name).glob("train.tsv"))
    good = path.read_bytes()
    header = "\t".join(["index", *map(str, glue_dir.FORMATS[name].columns[:-1])])
    test = f"{header}\n0\ta\tb\n1\tc\td\n".encode()

    @settings(fuzz, max_examples=math.ceil(CASES / len(GLUE)))
    @example(good, test)
    @given(damaged(good), damaged(test))
    def check(content, tested):
        path.write_bytes(content)
        assert survives(glue_dir.read_file, path, task) or content != good
        path.write_bytes(tested)
        survives(glue_dir.read_test, path, task, 2)

    check()


def test_texts(folder):
    path, good = folder / "texts.txt", b"One text. Another sentence.\n\nA second text.\r\n"

    @fuzz
    @example(good)
    @given(damaged(good))
    def check(content):
        path.write_bytes(content)
        assert survives(load_documents, str(path)) or content != good
        survives(lambda: list(corpus.open_stream(str(path))))
        survives(corpus.estimate, str(path), 1, 8)

    check()


def test_kept_rows(folder):
    path, task = folder / "kept.jsonl", TASKS["rte"]
    good = b'{"text_a": "a", "text_b": "b", "label": "entailment"}\n'

    @fuzz
    @example(good)
    @given(
        damaged(good)
        | tables(["text", "text_a", "text_b", "label"]).map(json.dumps).map(str.encode)
    )
    def check(content):
        path.write_bytes(content)
        rows = survives(files.read_jsonl_rows, path, task)
        assert rows or content != good
        for text_a, text_b, _ in rows or ():
            assert isinstance(text_a, str) and isinstance(text_b, str | None)

    check()


def check_spec(spec):
    assert all(math.isfinite(getattr(spec, n)) for n, f in FIELDS.items() if f.type in (int, float))
    assert RunSpec.from_json(spec.to_json()) == spec


def test_profiles(folder):
    path, whole = folder / "own.toml", dict(title="x", tasks=["nli"], seeds=1)
    inner = st.sampled_from(["nli", "lrc", "default", "rows", "seeds", "learning_rate", *FIELDS])
    table = st.dictionaries(inner, VALUES | st.dictionaries(inner, VALUES, max_size=2), max_size=3)
    some = st.dictionaries(st.sampled_from(sorted(KEYS)), VALUES | table, max_size=3)
    lines = some.map(lambda table: "\n".join(map_lines(whole | table)).encode())

    def read():
        profile = load_profile(str(path))
        check_spec(profile.spec())
        return profile.candidates() or profile

    @fuzz
    @example(PROFILE)
    @given(damaged(PROFILE) | lines)
    def check(content):
        path.write_bytes(content)
        assert survives(read) or content != PROFILE

    check()


@fuzz
@example(RunSpec().to_json())
@given(
    damaged(RunSpec().to_json().encode()).map(lambda b: b.decode(errors="replace"))
    | tables(FIELDS).map(json.dumps)
)
def test_specs(text):
    spec = survives(RunSpec.from_json, text)
    if spec:
        check_spec(spec)
    assert spec or text != RunSpec().to_json()


@fuzz
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(FIELDS)) | WORDS, WORDS | NUMBERS.map(str)), max_size=3
    )
)
def test_settings(pairs):
    given = [f"{name}={value}" for name, value in pairs]
    for form in (given, " ".join(given)):
        survives(lambda form: check_spec(load_profile("smoke", form).spec()), form)


def read_run(run):
    found = [run.provenance, run.history, run.metrics, run.predictions("dev"), run.predictions()]
    return [*found, run.score(), run.score("dev", "f1")]


def test_runs(folder):
    arrays = io.BytesIO()
    parts = {"logits": np.eye(2, dtype="f4"), "labels": np.arange(2), "keys": np.array(["a", "b"])}
    np.savez(arrays, **{f"dev/{name}": array for name, array in parts.items()})
    good = {
        "metrics.json": b'{"splits": {"dev": {"n": 2, "accuracy": 0.5, "f1": 0.5}}, '
        b'"primary": "accuracy"}',
        "provenance.json": b'{"seconds": 1.5}',
        "history.jsonl": b'{"step": 0, "loss": 1.5}\n{"step": 1, "loss": NaN}\n',
        "predictions.npz": arrays.getvalue(),
    }
    run = RunResult(RunSpec(), folder)

    @fuzz
    @example(good)
    @given(st.fixed_dictionaries({name: damaged(content) for name, content in good.items()}))
    def check(files):
        for name, content in files.items():
            (folder / name).write_bytes(content)
        assert survives(read_run, run) or files != good
        for part in ("provenance", "history", "metrics"):
            survives(getattr, run, part)
        survives(run.predictions, "dev")

    check()


def test_results_of_notebooks(folder):
    out, names = folder / "kept", ("01_cos_nce_geometry", "05_ablations")
    (out / "results").mkdir(parents=True)
    (out / "notebooks").mkdir()
    record = {"schema": report.SCHEMA, "parameters": {}, "findings": ["1 < 2"], "tables": []}
    record |= {"figures": [], "numbers": {}, "provenance": {"time": "now", "versions": {}}}
    good, profile = json.dumps(sealed(record)).encode(), load_profile("smoke")
    executions, order = {names[0]: Execution(names[0], "ok")}, Order(names[1], Path(), {}, 1, "x")
    (out / "results" / f"{names[0]}.json").write_bytes(good)
    pages = {}

    @fuzz
    @example(good)
    @given(damaged(good) | VALUES.map(json.dumps).map(str.encode))
    def check(content):
        (out / "results" / f"{names[1]}.json").write_bytes(content)
        (out / "notebooks" / f"{names[1]}.key").write_bytes(content[:64])
        assert survives(is_kept, order, out) is False
        summary = survives(report.collect, profile, {}, executions, out, 1.0)
        count = len(summary["notebooks"])
        assert count == 1 + (json.loads(good) == read_json(content))
        assert pages.setdefault(count, count in pages or survives(report.render, summary, out))

    check()


def read_json(content: bytes):
    try:
        return json.loads(content.decode())  # the kit reads no byte order mark
    except (ValueError, RecursionError):
        return None


def test_kept_results(folder):
    """What `python -m lrc_lib verify --results DIR` reads."""
    arrays, place = io.BytesIO(), folder / "kept-results"
    (place / "predictions").mkdir(parents=True)
    of_dev = {"split": "dev", "ids": ["a"], "logits": [np.eye(2)], "labels": [0, 1], "keys": ["a"]}
    np.savez(arrays, **{f"0/{name}": np.array(part) for name, part in of_dev.items()})
    metrics = {"splits": {"dev": {"accuracy": 1.0, "n": 2}}, "constant": {"dev": {"accuracy": 0.5}}}
    run = {"spec": {"task": "nli"}, "metrics": metrics | {"primary": "accuracy"}, "provenance": {}}
    good = {
        "x.json": json.dumps({"runs": {"a": run}}).encode(),
        "predictions/x.npz": arrays.getvalue(),
    }

    @fuzz
    @example(good)
    @given(
        st.fixed_dictionaries({name: damaged(content) for name, content in good.items()})
        | VALUES.map(
            lambda v: good | {"x.json": json.dumps({"runs": {"a": run | {"metrics": v}}}).encode()}
        )
    )
    def check(files):
        for name, content in files.items():
            (place / name).write_bytes(content)
        found = survives(verify, place)
        assert files != good or all(cell.agrees for cell in found[0]) and len(found[0]) == 3
        survives(lambda: [cell.agrees for cell in (found or [()])[0]])

    check()


def test_runs_of_strangers(folder):
    """What `merge` takes from another store, whose manifests are right; and weights."""
    place = folder / "nli-lrc-s0-0123456789"
    place.mkdir()
    places = ("data", "teacher", "task", "general_data", "augment_glove")
    spec = RunSpec(task="nli", train_rows=3, dev_rows=3)
    given_specs = tables(places).map(lambda values: json.dumps({"task": "nli"} | values).encode())
    good = save({"maps.0.weight": torch.zeros(4, spec.student_hidden)})
    (place / "metrics.json").write_text('{"splits": {}}')

    @fuzz
    @example(spec.to_json().encode(), good)
    @given(damaged(spec.to_json().encode()) | given_specs, damaged(good))
    def check(text, weights):
        (place / "spec.json").write_bytes(text)
        (place / "projection.safetensors").write_bytes(weights)
        found = survives(RunResult(spec, place).projection)
        assert found or weights != good
        write_manifest(place)
        assert isinstance(survives(_examine, place, False), RunSpec | str)

    check()


def test_records_of_files_that_are_written_in_parts(folder):
    path, record, begin = folder / "parts", folder / "parts.state", {"texts": 0}
    write_parts(path, record, begin, lambda state: iter([(b"one", {"texts": 1})]))
    good = record.read_bytes()

    @fuzz
    @example(good)
    @given(damaged(good) | tables(["bytes", "sha256", "texts"]).map(json.dumps).map(str.encode))
    def check(content):
        record.write_bytes(content)
        state, _ = survives(_begun, path, record, begin)
        whole = {"texts": 1, "bytes": 3}
        assert state == (whole if read_json(content) == json.loads(good) else begin | {"bytes": 0})

    check()


def test_configs_of_teachers(folder):
    good = b'{"model_type": "bert", "max_position_embeddings": 64, "pad_token_id": 0}'
    names = ["model_type", "max_position_embeddings", "pad_token_id", "auto_map", "hidden_size"]
    some = tables(names).map(lambda values: json.dumps({"model_type": "roberta"} | values).encode())

    @fuzz
    @example(good)
    @given(damaged(good) | some)
    def check(content):
        (folder / "config.json").write_bytes(content)
        config = survives(local_config, str(folder))
        assert content != good or config.max_position_embeddings == 64
        assert 0 < survives(most_tokens, config) <= POSITIONS

    check()


@fuzz
@example("3,6")
@given(st.lists(WORDS | NUMBERS.map(str), max_size=3).map(",".join))
def test_layer_maps(text):
    assert survives(layer_pairs, 2, 6, text) or text != "3,6"


PARSERS = "loads load memmap load_file reader from_json from_pretrained".split()
READERS = {  # the test that feeds a function hostile input, or why none does: the functions
    "test_own_files": "tables._read_csv tables._read_jsonl",
    "test_task_toml": "tables.read_toml",
    "test_kept_rows": "files.read_jsonl_rows",
    "test_specs": "handlers.run_one spec.from_json",
    "test_runs": "store._json store.predictions",
    "test_manifests_and_stored_specs": "manifest.fault",
    "test_results_of_notebooks": "execute.read_json unchanged._key",
    "test_kept_results": "kept.load_results predictions.kept_runs",
    "test_runs_of_strangers": "merge._examine store.projection",
    "test_records_of_files_that_are_written_in_parts": "resumable._begun",
    "test_configs_of_teachers": "models.local_config",
    "it reads files of the kit": "commands.show_list edition.make_edition edition.quiz "
    "child.parameter_names notebook.code_lines notebook.cell_of glue_dir._read_formats",
    "it reads what this process has made": "report._run packing.tokenizer_key predictions.entry "
    "store.publish store._has_every_step card.model_card",
    "a hash is checked first, see tests/chaos": "wiki.read_texts packing._read teacher.__init__ "
    "training._load_whole models.load_saved store.tokenizer",
    "each exception becomes an InputError": "models._pretrained",
}


def test_every_function_that_parses_is_fed_hostile_input_or_has_a_reason():
    found = set()
    for path in Path(report.__file__).parents[1].rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            called = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
            if any(getattr(n, "attr", getattr(n, "id", "")) in PARSERS for n in called):
                found.add(f"{path.stem}.{function.name}")
    assert found <= {name for names in READERS.values() for name in names.split()}
    assert all(name in globals() for name in READERS if name.startswith("test_"))


def test_glove(folder):
    path, good = folder / "vectors.txt", "the 0.1 -2 3e-1\nnew york 1 2 3\n1990 1 1 1\né 4 5 6\n"

    @fuzz
    @example(good.encode())
    @given(damaged(good.encode()))
    def check(content):
        path.write_bytes(content)
        vectors = survives(read_glove, path)
        assert vectors or content != good.encode()
        assert vectors is None or np.isfinite(vectors.matrix).all()

    check()


def test_manifests_and_stored_specs(folder):
    out = folder / "out"
    run = out / "runs" / "reviews-lrc-s0-0123456789"
    run.mkdir(parents=True)
    spec = RunSpec().to_json().encode()
    (run / "spec.json").write_bytes(spec)
    write_manifest(run)
    whole = (run / MANIFEST).read_bytes()
    assert [result.id for result in finished(out)] == [run.name]

    @fuzz
    @given(damaged(whole), damaged(spec))
    def check(manifest, text):
        run.mkdir(exist_ok=True)
        (run / MANIFEST).write_bytes(manifest)
        (run / "spec.json").write_bytes(text)
        why = survives(fault, run)
        assert isinstance(why, str) and (not why or (manifest, text) != (whole, spec))
        assert len(survives(finished, out)) <= (not why)

    check()
