"""`reproduce`: trains what is missing, executes the notebooks, writes the report."""

import time
from pathlib import Path

from joblib import cpu_count

from lrc_lib.cli import report
from lrc_lib.cli.execute import Execution, Order, child_environment, execute_all
from lrc_lib.cli.plan import disk_needed, show_plan, to_train
from lrc_lib.cli.preflight import check_space, claim, set_aside, uses_hub
from lrc_lib.cli.terminal import Forecast, Screen, say
from lrc_lib.cli.unchanged import shared_inputs
from lrc_lib.course.notebook import NOTEBOOKS, notebook_path, output_root
from lrc_lib.runs import pool
from lrc_lib.runs.device import default_jobs, jobs_now, resolve_device
from lrc_lib.runs.provenance import provenance
from lrc_lib.runs.selection import to_choose, with_choices
from lrc_lib.runs.store import find


def command(options) -> int:
    """Plans, or trains, executes and reports, as the options say; returns the exit code."""
    notebooks = options.notebooks or list(NOTEBOOKS.values())
    profile, out = options.chosen, output_root(options.out)
    device = resolve_device(options.device)
    jobs = options.jobs or default_jobs(device)
    if options.plan:
        show_plan(notebooks, profile, out, str(device), jobs)
        return 0
    with claim(out):
        return reproduce(options, notebooks, out, device, jobs)


def reproduce(options, notebooks, out: Path, device, jobs: int) -> int:
    """Trains, executes and reports; returns the exit code."""
    began, profile = time.perf_counter(), options.chosen
    known = with_choices(profile, out)
    needs, specs = needed(notebooks, known)
    if options.fresh:
        set_aside(out, needed(notebooks, profile)[1] | specs)
        known, (needs, specs) = profile, needed(notebooks, profile)
    check_space(out, disk_needed(specs.values(), out))
    say(f"Profile {profile.name}: {profile.title}")
    precisions = ", ".join(sorted({spec.precision for spec in specs.values()}))
    say(
        f"{len(notebooks)} notebook(s), {len(specs)} run(s), device {device} ({precisions}), "
        f"into {out}"
    )
    say_if_in_fp32(specs, out)
    with Screen(options.verbose) as screen:

        def train(specs):
            left = to_train(specs.values(), out).items()
            works = [(spec.name, cost.student + cost.teacher) for spec, cost in left]
            at_once = options.jobs or jobs_now(jobs)
            screen.forecast = Forecast(works, len(notebooks), at_once)
            return pool.train_all(specs, out, str(device), jobs, screen, at_once)

        outcomes = {}
        if first := to_choose(known, specs.values()):  # the others follow from what is chosen
            outcomes = train(pool.close_over(first))
            needs, specs = needed(notebooks, with_choices(known, out))
        outcomes = train(specs) | outcomes
        skipped = hopeless(needs, outcomes)
        wanted = [notebook for notebook in notebooks if notebook.name not in skipped]
        jobs = max(1, min(jobs, len(wanted)))
        offline = options.offline or not uses_hub(specs.values())
        environment = child_environment(max(1, cpu_count() // jobs), offline)
        machine = provenance(device) | {"commit": "", "threads": environment["OMP_NUM_THREADS"]}
        inputs = shared_inputs(out, machine)
        orders = [
            Order(
                notebook.name, notebook_path(notebook.name), parameters(options, out),
                60 * (options.minutes or notebook.minutes), inputs,
            )
            for notebook in wanted
        ]  # fmt: skip
        screen.forecast = Forecast((), len(orders), jobs)
        executions = execute_all(orders, out, environment, jobs, screen, options.verbose)
    seconds = time.perf_counter() - began
    summary = report.collect(profile, outcomes, skipped | executions, out, seconds)
    report.write(summary, out)
    return report.show(summary, out)


def say_if_in_fp32(specs: dict, out: Path) -> None:
    """Says how many of the runs the store holds in fp32 only, while another precision is asked."""
    asked = [s for s in specs.values() if s.precision != "fp32" and not find(s, out)]
    known = sum(find(spec.replace(precision="fp32"), out) is not None for spec in asked)
    if known:
        say(
            f"The store holds {known} of these runs in fp32. They train again, in "
            f"{asked[0].precision}; --set precision=fp32 reads them."
        )


def needed(notebooks, profile) -> tuple[dict, dict]:
    """({notebook: its specs}, {run id: spec} of these and of all that they depend on)."""
    needs = {notebook.name: notebook.needs(profile) for notebook in notebooks}
    return needs, pool.close_over(spec for wanted in needs.values() for spec in wanted)


def hopeless(needs: dict, outcomes: dict) -> dict[str, Execution]:
    """{notebook: "skipped", and why} of the notebooks that need a run that failed."""
    found = {}
    for name, specs in needs.items():
        for outcome in (outcomes[spec.run_id()] for spec in specs):
            if outcome.status in ("failed", "skipped"):
                message = f"needs {outcome.spec.name}, which failed"
                found.setdefault(name, Execution(name, "skipped", message=message))
    return found


def parameters(options, out: Path) -> dict:
    """The values of a notebook's `parameters` cell."""
    seeds = options.chosen.seed_range
    return {
        "PROFILE": options.profile,
        "TASKS": ",".join(options.task),
        "DATA": options.data,
        "DEVICE": options.device,
        "SEEDS": f"{seeds[0]}-{seeds[-1]}" if seeds[0] else options.seeds or 0,
        "OUT": str(out),
        "SETTINGS": options.settings,  # a list: a value may hold a space
    }
