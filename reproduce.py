#!/usr/bin/env python3
"""Reproduces the kit's results: trains what is missing, executes the notebooks, writes a report.

Start with `python reproduce.py --list`, `--plan` or nothing at all.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from lrc_lib.course.notebook import NOTEBOOKS, ROOT, find_notebook, output_root
from lrc_lib.errors import InputError, LrcError, unknown

INTERRUPTED = 130
EPILOG = """exit codes:
  0    all is well
  1    a run or a notebook failed
  2    wrong input
  3    something is missing and could not be fetched
  130  interrupted; the same command goes on from there

examples:
  python reproduce.py                                  the laptop profile
  python reproduce.py --profile smoke                  every step, tiny
  python reproduce.py --glue-dir glue_data --task rte --task cola
  python reproduce.py --only 04,05 --set epochs=2 --seeds 3
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--profile", default="laptop", help="smoke, laptop (default), gpu, paper, or a TOML file")
    add("--only", action="append", default=[], metavar="04,05", help="these notebooks only")
    add("--task", action="append", default=[], nargs="+", metavar="T", help="these tasks instead")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--glue-dir", dest="data", default="", metavar="DIR", help="GLUE's files")
    where.add_argument(
        "--data-dir", dest="data", default="", metavar="DIR", help='your own files, or "hub"'
    )
    add("--device", default="auto", help="auto (default), cpu, cuda or mps")
    add("--seeds", type=int, default=0, metavar="N", help="seeds 0 to N-1 instead of the profile's")
    add("--out", default="", metavar="DIR", help="where runs and results live (default: out/)")
    add("--set", action="extend", default=[], nargs="+", metavar="KEY=VALUE", dest="settings")
    add("--jobs", type=int, default=0, metavar="N", help="processes side by side")
    together = parser.add_mutually_exclusive_group()
    together.add_argument(
        "--stack", action=argparse.BooleanOptionalAction, default=None,
        help="train recipes of a task and seed as one model "
        "(default: where results/benchmarks says that it is faster)",
    )  # fmt: skip
    together.add_argument(
        "--ray", nargs="?", const="", default=None, metavar="ADDRESS",
        help="train on a Ray cluster (none named: $RAY_ADDRESS, else one on this machine)",
    )  # fmt: skip
    add("--limit", type=float, default=0, metavar="MINUTES", help="wall limit of a notebook")
    add("--list", action="store_true", help="list notebooks and profiles")
    add("--plan", action="store_true", help="say what it would cost here; train nothing")
    add("--offline", action="store_true", help="do not touch the network")
    add("--fresh", action="store_true", help="set earlier runs aside and train again")
    add("--verbose", action="store_true", help="show what runs and notebooks print")
    add("--_notebook", default="", help=argparse.SUPPRESS)
    return parser


def main(arguments=None) -> int:
    """Returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        if options._notebook:
            return execute_notebook(**json.loads(options._notebook))
        return reproduce(options)
    except LrcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def reproduce(options) -> int:
    """Plan, train, execute, report, as the options say."""
    words = " ".join(options.only).replace(",", " ").split()
    chosen = [find_notebook(word) for word in words] or list(NOTEBOOKS.values())
    if options.list:
        return show_list()
    from lrc_lib.cli.execute import Order, child_environment, execute_all, offline_environment

    if options.offline or options.plan:  # a plan needs no hub
        os.environ.update(offline_environment())
    if options.offline:
        os.environ["LRC_OFFLINE"] = "1"
    if options.jobs < 0 or options.limit < 0 or options.seeds < 0:
        raise InputError("--jobs, --limit and --seeds take positive numbers.")
    if options.data and options.data != "hub":
        options.data = str(Path(options.data).expanduser().resolve())
    from lrc_lib.cli.preflight import check_space, check_writable, set_aside, uses_hub

    out = output_root(options.out)
    check_writable(out)

    from lrc_lib.cli.terminal import Screen, make_console
    from lrc_lib.runs.device import default_jobs, resolve_device, stacking_pays
    from lrc_lib.runs.profiles import load_profile

    tasks = [word for group in options.task for word in group]
    profile = load_profile(options.profile, options.settings, tasks, options.data, options.seeds)
    device = resolve_device(options.device)
    cores = os.cpu_count() or 1
    jobs = options.jobs or default_jobs(device)
    console = make_console()
    if options.plan:
        from lrc_lib.cli.plan import show_plan

        show_plan(console, chosen, profile, out, str(device), jobs)
        return 0

    from lrc_lib.cli import report
    from lrc_lib.cli.plan import disk_needed
    from lrc_lib.runs.pool import close_over, train_all

    began = time.perf_counter()
    needs = {notebook.name: notebook.needs(profile) for notebook in chosen}
    hub = uses_hub(spec for specs in needs.values() for spec in specs)
    specs = close_over(spec for wanted in needs.values() for spec in wanted)
    if options.fresh:
        set_aside(out, specs)
    check_space(out, disk_needed(specs.values(), out))
    console.print(f"Profile {profile.name}: {profile.title}")
    console.print(f"{len(chosen)} notebook(s), {len(specs)} run(s), device {device}, into {out}")
    with Screen(console, options.verbose) as screen:
        if options.ray is None:
            stack = options.stack
            if stack is None:
                stack = stacking_pays(device.type, ROOT / "results" / "benchmarks")
            outcomes = train_all(specs, out, str(device), jobs, screen)
        else:
            from lrc_lib.runs import ray_pool

            outcomes = ray_pool.train_all(specs, out, options.device, options.ray, screen)
        orders, skipped = [], {}
        for notebook in chosen:
            bad = [outcomes[s.run_id()] for s in needs[notebook.name]]
            bad = [outcome for outcome in bad if outcome.status in ("failed", "skipped")]
            if bad:
                skipped[notebook.name] = f"needs {bad[0].spec.name}, which failed"
                continue
            seconds = 60 * (options.limit or notebook.minutes)
            source = ROOT / "notebooks" / f"{notebook.name}.ipynb"
            orders.append(Order(notebook.name, source, parameters(options, tasks, out), seconds))
        side_by_side = max(1, min(jobs, len(orders)))
        threads = max(1, cores // side_by_side)
        environment = child_environment(threads, offline=options.offline or not hub)
        executions = execute_all(orders, out, environment, side_by_side, screen, options.verbose)
    seconds = time.perf_counter() - began
    summary = report.collect(profile, chosen, outcomes, executions, skipped, out, seconds)
    report.write(summary, out)
    return report.show(console, summary, out)


def parameters(options, tasks, out: Path) -> dict:
    """The values of a notebook's `parameters` cell."""
    return {
        "PROFILE": options.profile,
        "TASKS": ",".join(tasks),
        "DATA": options.data,
        "DEVICE": options.device,
        "SEEDS": options.seeds,
        "OUT": str(out),
        "SETTINGS": " ".join(options.settings),
    }


def show_list() -> int:
    """Notebooks with their questions, and profiles."""
    import tomllib

    from lrc_lib.runs.profiles import FOLDER, PROFILES

    print("notebooks")
    for notebook in NOTEBOOKS.values():
        print(f"  {notebook.name:<27} {notebook.question}")
    print("\nprofiles")
    for name in PROFILES:
        print(f"  {name:<8} {tomllib.loads((FOLDER / f'{name}.toml').read_text())['title']}")
    return 0


def execute_notebook(source: str, target: str, parameters: dict, verbose: bool = False) -> int:
    """The child: executes one notebook with papermill and this interpreter's own kernel."""
    # An optional part of jsonschema that takes 2 s to import and that notebooks do not need.
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill
    from ipykernel.kernelspec import make_ipkernel_cmd
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class PinnedKernelManager(AsyncKernelManager):
        """Starts `sys.executable`, whatever kernelspecs lie around on this machine."""

        @property
        def kernel_spec(self):
            metadata = {"supported_encryption": ["curve"]}
            return KernelSpec(argv=make_ipkernel_cmd(), language="python", metadata=metadata)

    known = parameter_names(Path(source))
    for name in parameters:
        if name not in known:  # papermill would go on with a warning
            raise unknown(f"parameter for {Path(source).name}:", name, known)
    try:
        _execute(papermill, source, target, parameters, PinnedKernelManager, verbose)
    finally:
        _write_peak(f"{target}.peak")
    return 0


def parameter_names(path: Path) -> list[str]:
    """The names that the notebook's cell tagged `parameters` assigns.

    Raises:
        InputError: not exactly one such cell: papermill would then let its own defaults win.
    """
    import ast

    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise InputError(f"{path} has {len(tagged)} cells tagged 'parameters' instead of one.")
    tree = ast.parse("".join(tagged[0]["source"]))
    return [target.id for line in tree.body for target in getattr(line, "targets", [])]


def _execute(papermill, source, target, parameters, manager, verbose) -> None:
    """One execution; a kernel that does not start gets a second chance."""
    from traitlets.config import Config

    for attempt in (1, 2):
        try:
            papermill.execute_notebook(
                _braces(source),
                _braces(target),
                parameters=parameters,
                kernel_name="python3",
                language="python",
                kernel_manager_class=manager,
                config=Config(PinnedKernelManager={"transport_encryption": "auto"}),
                cwd=str(Path(source).parent),
                progress_bar=False,
                log_output=verbose,
                stdout_file=sys.stdout if verbose else None,
                stderr_file=sys.stderr if verbose else None,
            )
            break
        except Exception:
            if attempt == 2 or _began(target):
                raise
            print("the kernel did not start; trying once more", file=sys.stderr)


def _write_peak(path: str) -> None:
    """Peak memory of the kernel, which has ended, in MB."""
    try:
        import resource
    except ImportError:  # Windows
        return
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    Path(path).write_text(str(peak / (1e6 if sys.platform == "darwin" else 1e3)))


def _braces(path: str) -> str:
    """papermill formats paths with str.format: braces are doubled."""
    return path.replace("{", "{{").replace("}", "}}")


def _began(path: str) -> bool:
    """Whether any cell of the executed notebook was started."""
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return False
    return any(cell.get("execution_count") or cell.get("outputs") for cell in cells)


if __name__ == "__main__":
    sys.exit(main())
