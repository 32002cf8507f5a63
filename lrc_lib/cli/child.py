"""The child process that executes one notebook: `python -m lrc_lib.cli.child JSON`.

papermill runs the cells in a kernel of this same interpreter. After any failure the process ends
with an exit code that is not 0.
"""

import ast
import json
import os
import sys
import threading
from pathlib import Path

sys.modules.setdefault("rfc3987_syntax", None)  # a part of jsonschema: not needed, and 2 s to load

import papermill  # noqa: E402
from jupyter_client import AsyncKernelManager  # noqa: E402
from jupyter_client.kernelspec import KernelSpec  # noqa: E402

from lrc_lib.cli.execute import read_json  # noqa: E402
from lrc_lib.errors import InputError, unknown  # noqa: E402

KERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]


class PinnedKernelManager(AsyncKernelManager):
    """Starts `sys.executable`, and ignores the kernelspecs of this machine."""

    kernel_spec = KernelSpec(argv=KERNEL, language="python")


def execute_notebook(source: str, target: str, parameters: dict, verbose: bool = False) -> None:
    """Executes `source` into `target`.

    Raises:
        InputError: the notebook does not declare one of the parameters.
    """
    known = parameter_names(Path(source))
    for name in parameters:
        if name not in known:  # papermill would only warn
            raise unknown(f"parameter for {Path(source).name}:", name, known)
    for attempt in (1, 2):
        try:
            papermill.execute_notebook(
                _braces(source),
                _braces(target),
                parameters=parameters,
                kernel_name="python3",
                language="python",
                kernel_manager_class=PinnedKernelManager,
                cwd=str(Path(source).parent),
                progress_bar=False,
                log_output=verbose,
                stdout_file=sys.stdout if verbose else None,
                stderr_file=sys.stderr if verbose else None,
            )
            return
        except Exception:
            cells = read_json(Path(target)).get("cells", [])
            if attempt == 2 or any(c.get("execution_count") or c.get("outputs") for c in cells):
                raise
            print("the kernel did not start; trying once more", file=sys.stderr)


def parameter_names(path: Path) -> list[str]:
    """The names that the notebook's cell tagged `parameters` assigns.

    papermill's own reading of that cell overlooks a value with "=" in its comment.

    Raises:
        InputError: not exactly one such cell; papermill would let the notebook's own values win.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise InputError(f"{path} has {len(tagged)} cells tagged 'parameters' instead of one.")
    tree = ast.parse("".join(tagged[0]["source"]))
    return [target.id for line in tree.body for target in getattr(line, "targets", [])]


def _braces(path: str) -> str:
    """papermill formats paths with str.format: braces are doubled."""
    return path.replace("{", "{{").replace("}", "}}")


def end_with_parent() -> None:
    """Ends this process when its parent, which never writes to its stdin, is gone; a kernel of
    ipykernel then ends itself."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    execute_notebook(**json.loads(sys.argv[1]))
