"""Predictions for the GLUE server: `python -m lrc_lib predict RUN ... --glue-dir DIR --out ZIP`.

The format is that of the server's FAQ (gluebenchmark.com/faq, "How do I use GLUE?"): a flat zip of
tab-separated files, one per task, with the header `index`, `prediction`. The server scores only a
zip that holds all of them. Nothing is invented here: a file that no run answers is not written.
"""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lrc_lib.course.notebook import publish
from lrc_lib.data import glue_dir
from lrc_lib.data.batches import encode
from lrc_lib.data.tasks import GLUE, TASKS, Task
from lrc_lib.errors import InputError
from lrc_lib.evaluate import decide, predict
from lrc_lib.runs.device import resolve_device
from lrc_lib.runs.store import RunResult, open_run

WORDS = ("mnli", "qnli", "rte")  # answered with label words; the other tasks with class numbers


class Answer(NamedTuple):
    """One file of the zip.

    Attributes:
        name: of the file, without ".tsv".
        task: the task whose run answers it; "" where this kit has none.
        test: GLUE's file of unlabelled rows, in the task's folder; "" for the diagnostic set.
        rows: how many the server scores.
    """

    name: str
    task: str
    test: str
    rows: int


ANSWERS = (
    Answer("CoLA", "cola", "test.tsv", 1063),
    Answer("SST-2", "sst-2", "test.tsv", 1821),
    Answer("MRPC", "mrpc", "test.tsv", 1725),
    Answer("STS-B", "sts-b", "test.tsv", 1379),
    Answer("QQP", "qqp", "test.tsv", 390965),
    Answer("MNLI-m", "mnli", "test_matched.tsv", 9796),
    Answer("MNLI-mm", "mnli", "test_mismatched.tsv", 9847),
    Answer("QNLI", "qnli", "test.tsv", 5463),
    Answer("RTE", "rte", "test.tsv", 3000),
    Answer("WNLI", "", "test.tsv", 146),
    Answer("AX", "mnli", "", 1104),
)


class Submission(NamedTuple):
    """What a zip holds and what it lacks.

    Attributes:
        path: of the zip.
        runs: file name -> the run that answered it.
        missing: file name -> why it is not there.
    """

    path: Path
    runs: dict[str, RunResult]
    missing: dict[str, str]


def predictions(task: Task, logits: np.ndarray) -> list[str]:
    """Answers as the server reads them, from logits (n, C).

    For STS-B: the score, cut to [0, 5], with three decimals. For MNLI, its diagnostic set, QNLI and
    RTE: label words. For the other tasks: class numbers.
    """
    decided = decide(task, logits)
    if task.kind == "regression":
        return [f"{score:.3f}" for score in np.clip(decided, 0, glue_dir.MAX_SCORE)]
    return [task.labels[i] if task.name in WORDS else str(i) for i in decided]


def choose_runs(names, out=None) -> tuple[dict[str, RunResult], list[str]]:
    """Task -> run for what the user named, and the GLUE tasks named that have no run.

    Args:
        names: run ids, run folders, or task names for the best run by dev score.
        out: folder that holds `runs/`.

    Raises:
        InputError: no such run, a run of no GLUE task, two runs of one task.
    """
    chosen, without = {}, []
    for name in names:
        try:
            result = open_run(name, out)
        except InputError:
            if name not in GLUE:
                raise
            without.append(name)
            continue
        task = result.spec.task
        if not result.metrics["splits"] or task not in GLUE:
            what = f"'{task}'" if result.metrics["splits"] else "unlabelled text"
            raise InputError(
                f"'{name}' is a run on {what}, which the GLUE server does not ask for. Its tasks: "
                f"{', '.join(GLUE)}."
            )
        if task in chosen:
            raise InputError(
                f"Two runs of {task}: {chosen[task].id} and {result.id}. A zip takes one of them."
            )
        chosen[task] = result
    return chosen, without


def write_submission(names, data: str, path, out=None, device="auto") -> Submission:
    """Predicts GLUE's test rows with finished runs and writes the server's zip.

    All files are read before anything is predicted, and the zip appears whole or not at all.

    Args:
        names: see `choose_runs`.
        data: folder in the classic glue_data layout, with test files.
        path: of the zip.
        out: folder that holds `runs/`.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        InputError: see `choose_runs` and `glue_dir.read_test`; none of the tasks named has a run;
            the zip cannot be written.
    """
    device, path = resolve_device(device), Path(path)
    if not Path(data).is_dir():
        raise InputError(f"There is no folder '{data}' to read GLUE's test files from.")
    chosen, without = choose_runs(names, out)
    if not chosen:
        raise InputError(f"No finished run of {', '.join(without)}: there is nothing to predict.")
    rows, missing = {}, {}
    for answer in ANSWERS:
        if not answer.task:
            missing[answer.name] = "not a task of this kit, nor of the paper"
        elif answer.task not in chosen:
            asked = answer.task in without
            missing[answer.name] = (
                f"{answer.task} has no run" if asked else f"no run of {answer.task} given"
            )
        elif (file := _test_file(data, answer)) is None:
            missing[answer.name] = f"no diagnostic.tsv in '{data}'"
        else:
            rows[answer] = glue_dir.read_test(file, TASKS[answer.task], answer.rows)
    texts = {answer.name: _answer(chosen[answer.task], rows[answer], device) for answer in rows}
    _write(path, texts)
    return Submission(path, {answer.name: chosen[answer.task] for answer in rows}, missing)


def _test_file(data: str, answer: Answer) -> Path | None:
    if not answer.test:
        return glue_dir.find_diagnostic(data)
    folder = glue_dir.find_folder(data, answer.task)
    if folder is None:
        name = glue_dir.FORMATS[answer.task].folder
        raise InputError(f"There is no folder '{name}' in '{data}'. {glue_dir.TEST_LAYOUT}")
    return folder / answer.test


def _answer(result: RunResult, rows, device) -> str:
    task = TASKS[result.spec.task]
    encoded = encode(rows, result.tokenizer(), result.spec.max_length or task.max_length)
    logits = predict(result.student().to(device), encoded, device)
    lines = [f"{i}\t{answer}" for i, answer in enumerate(predictions(task, logits))]
    return "\n".join(["index\tprediction", *lines]) + "\n"


def _write(path: Path, texts: dict[str, str]) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in texts.items():  # ZipInfo has a fixed date: same runs, same bytes
            archive.writestr(zipfile.ZipInfo(f"{name}.tsv"), text, zipfile.ZIP_DEFLATED)
    try:
        publish(path, content.getvalue())
    except OSError as error:
        raise InputError(f"Cannot write '{path}': {error}.") from None
