"""What runs cost, before anything is trained: steps, tokens, FLOPs, minutes here, disk.

FLOPs are counted as two per multiply-add. Minutes come from a few real student steps on this
machine. Taught in notebooks/00_start_here.
"""

import time
from pathlib import Path

from lrc_lib.cli.cost import (
    GPU_FLOPS,
    GPU_LAYERS,
    cost,
    encoder_flops,
    gpu_minutes,
    row_facts,
    teacher_shape,
)
from lrc_lib.errors import InputError, LrcError

CALIBRATION_SECONDS = 5.0
NOTEBOOK_MINUTES = 0.5  # start, imports and figures; an assumption until one was measured
TABLE = ("run", "runs", "steps of one", "M tokens", "TFLOP", "min here", "min GPU", "disk MB", "")
ASSUMED = (
    f"'min GPU': one modern GPU by arithmetic, not measured: {GPU_LAYERS / 20:.0f} steps/s of a "
    f"4-layer student with perturbation, or {GPU_FLOPS / 1e12:.0f} TFLOP/s where that takes "
    "longer; one run at a time; a first stage that several runs share counts for each."
)


def calibrate(spec, device="auto", seconds: float = CALIBRATION_SECONDS) -> tuple[float, float]:
    """FLOPs a second here of training steps of the student and of the teacher's encoder.

    Two of the teacher's layers stand for it; random tokens, and the lengths of the spec's rows.
    """
    from lrc_lib.runs.device import resolve_device

    device = resolve_device(device)
    length = min(row_facts(spec)[1], 128)
    student = (spec.student_layers, spec.student_hidden, spec.student_intermediate)
    width, inner = teacher_shape(spec.teacher)[1:3]
    return tuple(
        _measure(shape, heads, spec.batch_size, length, device, seconds / 2)
        for shape, heads in ((student, spec.student_heads), ((2, width, inner), width // 32))
    )


def _measure(shape, heads, batch_size, length, device, seconds) -> float:
    import torch

    from lrc_lib.models import build_student

    model = build_student(*shape, heads).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.randint(1000, 2000, (batch_size, length), device=device)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    steps, begun = -1, time.perf_counter()  # one step to warm up
    while steps < 1 or time.perf_counter() - begun < seconds:
        if steps == 0:
            begun = time.perf_counter()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        steps += 1
    flops = 3 * batch_size * encoder_flops(*shape, length)
    return steps * flops / (time.perf_counter() - begun)


def all_specs(specs) -> list:
    """The specs and all that they depend on, dependencies first, each once.

    Specs are compared as they are: unlike run ids, this needs no data.
    """
    found: dict = {}

    def add(spec):
        for dependency in spec.dependencies():
            add(dependency)
        found.setdefault(spec)

    for spec in specs:
        add(spec)
    return list(found)


def write_specs(specs, folder: Path) -> int:
    """Writes the specs and all that they depend on, dependencies first, as 0.json, 1.json, ...

    Returns:
        How many.

    Raises:
        InputError: the folder is not empty, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"The folder '{folder}' is not empty. Give a new one.")
        for number, spec in enumerate(specs := all_specs(specs)):
            (folder / f"{number}.json").write_text(spec.to_json(), encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot write to '{folder}': {error}") from None
    return len(specs)


def is_done(spec, out) -> bool:
    """Whether the run is in the store; False where its data are not here to tell."""
    from lrc_lib.runs.store import find

    try:
        return find(spec, out) is not None
    except LrcError:
        return False


def disk_needed(specs, out) -> float:
    """Bytes that the runs still to be trained will take, caches and a checkpoint included."""
    costs = {spec: cost(spec) for spec in all_specs(specs) if not is_done(spec, out)}
    checkpoint = 3 * max((c.disk for c in costs.values()), default=0.0)  # weights and AdamW's state
    return total_disk(costs) + checkpoint


def total_disk(costs: dict) -> float:
    """Bytes of all runs in {spec: Cost}, each teacher's cache and each corpus counted once."""
    caches: dict = {}
    for spec, run in costs.items():
        if run.corpus:
            text = (spec.general_data, spec.general_rows, spec.general_max_length, spec.teacher)
            caches[text] = run.corpus
        key = (spec.teacher_spec() if spec.kind == "student" else spec, spec.representation)
        caches[key] = max(run.cache, caches.get(key, 0.0))
    return sum(run.disk for run in costs.values()) + sum(caches.values())


def run_rows(costs: dict, minutes: dict) -> list[tuple]:
    """A row for runs that differ in seed or learning rate only; from the tokens on, sums.

    Args:
        costs: {spec: Cost}.
        minutes: {spec: minutes here}; 0 for a run that is in the store.
    """
    groups: dict = {}
    for spec in costs:
        name = spec.replace(seed=0, learning_rate=1e-4).name.removesuffix(" seed 0")
        groups.setdefault(name, []).append(spec)
    rows = []
    for name, specs in groups.items():
        runs = [costs[spec] for spec in specs]
        left = [spec for spec in specs if minutes[spec]]
        steps = " or ".join(f"{n:,}" for n in sorted({run.steps for run in runs}))
        sums = [sum(run.tokens for run in runs) / 1e6]
        sums += [sum(run.student + run.teacher for run in runs) / 1e12]
        sums += [sum(minutes[spec] for spec in left)]
        sums += [sum(gpu_minutes(costs[spec]) for spec in left)]
        disk = (sum(run.disk for run in runs) + runs[0].cache + runs[0].corpus) / 1e6
        there = f"{len(runs) - len(left)} in the store" if len(left) < len(runs) else ""
        cells = (str(len(runs)), steps, *(f"{x:,.1f}" for x in sums), f"{disk:,.0f}")
        rows.append((name, *cells, there))
    return rows


def _remarks(costs: dict) -> str:
    """What was assumed, and which learning rates stand behind a row."""
    notes = dict.fromkeys(run.note for run in costs.values() if run.note)
    names = [f"{note}: {sum(run.note == note for run in costs.values())} run(s)" for note in notes]
    rates = sorted({spec.learning_rate for spec in costs if spec.kind == "student"})
    listed = " ".join(f"{rate:g}" for rate in rates)
    return "; ".join([*names, f"learning rate(s) of the students {listed}"]) + "."


def show_general_plan(console, spec, out, device="auto") -> None:
    """Prints what a general distillation would cost here; trains nothing.

    Raises:
        InputError: its text is missing.
    """
    run, (rows, length, note) = cost(spec), row_facts(spec)
    fast, slow = calibrate(spec, device)
    hours = (run.student / fast + run.teacher / slow) / 3600
    disk = total_disk({spec: run})
    console.print(
        f"General distillation on '{spec.general_data}': about {rows:,} sequences of {length} "
        f"tokens ({rows * length / 1e6:,.2f} M tokens{note and ', '}{note}).\n"
        f"{spec.general_epochs} epoch(s) of batches of {spec.general_batch_size}: {run.steps:,} "
        f"steps, {(run.student + run.teacher) / 1e12:,.2f} TFLOP ({run.teacher / 1e12:,.2f} of "
        f"them in the teacher), {disk / 1e9:,.2f} GB of disk.\n"
        f"About {hours:,.2f} h here, at {fast / 1e9:,.1f} GFLOP/s on the student and "
        f"{slow / 1e9:,.1f} on the teacher's layers, measured now; to fetch and to pack the text "
        "comes on top.",
        soft_wrap=True,
    )
    if is_done(spec, out):
        console.print(f"It is in the store: {spec.run_id()}.")


def show_plan(console, notebooks, profile, out, device="auto", jobs: int = 1) -> None:
    """Prints what each notebook and each run would cost here; trains nothing.

    Raises:
        LrcError: the data of a task that is not GLUE's cannot be read.
    """
    from lrc_lib.cli.terminal import show_table

    needs = {notebook.name: notebook.needs(profile) for notebook in notebooks}
    specs = all_specs(spec for wanted in needs.values() for spec in wanted)
    console.print(f"Profile {profile.name}: {profile.title}")
    fast, slow = 1.0, 1.0
    if specs:
        student = next(spec for spec in specs if spec.kind == "student")
        fast, slow = calibrate(student, device)
        console.print(
            f"Measured here in {CALIBRATION_SECONDS:.0f} s: {fast / 1e9:.1f} GFLOP/s on the "
            f"student, {slow / 1e9:.1f} on the teacher's layers."
        )
    minutes: dict = {}
    costs = {spec: cost(spec) for spec in specs}
    for spec, run in costs.items():
        done = is_done(spec, out)
        minutes[spec] = 0.0 if done else (run.student / fast + run.teacher / slow) / 60
    show_table(console, "Runs", TABLE, run_rows(costs, minutes))
    console.print(f"{_remarks(costs)} {ASSUMED}")
    counted: set = set()
    rows = []
    for name, wanted in needs.items():
        own = [spec for spec in all_specs(wanted) if spec not in counted]
        counted.update(own)
        trained = sum(minutes[spec] for spec in own)
        rows.append((name, str(len(wanted)), f"{trained:,.1f}", f"{NOTEBOOK_MINUTES:.1f}"))
    columns = ("notebook", "runs read", "min to train, if not for one above", "min to execute")
    show_table(console, "Notebooks", columns, rows)
    total = sum(minutes.values()) + NOTEBOOK_MINUTES * len(rows)
    gpu = sum(gpu_minutes(costs[spec]) for spec in specs if minutes[spec])
    disk = total_disk({spec: run for spec, run in costs.items() if minutes[spec]})
    console.print(
        f"In all about {total:,.0f} min ({total / 60:,.1f} h) of computing here, or "
        f"{gpu:,.0f} min ({gpu / 60:,.1f} h) on a GPU as assumed, and "
        f"{disk / 1e9:,.2f} GB of disk. Up to {jobs} side by side. Tokens count padding; lengths "
        "are estimated from words. Nothing was trained."
    )
