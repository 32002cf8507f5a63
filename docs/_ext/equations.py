"""Which function computes an equation, and which notebook teaches it: read from the docstrings.

A docstring of a function at the root of `lrc_lib` says "(Eq. 3)" in its first sentence and "Taught
in: notebooks/02_teacher_and_student" in its last line.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

EQUATIONS = range(1, 9)
NUMBERS = re.compile(r"\s*\(Eqs?\. ([\d, and-]+)\)")
FORMULA = re.compile(r"\$\$(?:(?!\$\$).)*?\\tag\{([\d, ]+)\}\s*\$\$", re.S)


@dataclass(frozen=True)
class Function:
    """A function of the library, the equations it computes and the notebooks that teach it."""

    name: str
    summary: str
    equations: tuple[int, ...]
    notebooks: tuple[str, ...]


def functions_of_equations(package: Path) -> list[Function]:
    """All functions whose docstring names an equation, from the files at the package's root."""
    found = []
    for path in sorted(package.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            doc = isinstance(node, ast.FunctionDef) and ast.get_docstring(node) or ""
            summary, _, rest = doc.partition("\n\n")
            numbers = NUMBERS.search(summary)
            if numbers:
                name = f"{package.name}.{path.stem}.{node.name}"
                notebooks = re.findall(r"notebooks/(\w+)", rest.partition("Taught in:")[2])
                summary = " ".join(NUMBERS.sub("", summary).split())
                found.append(Function(name, summary, _range(numbers[1]), tuple(notebooks)))
    return found


def _range(text: str) -> tuple[int, ...]:
    """The numbers of "3", "7 and 8" or "2-4"."""
    parts = re.findall(r"(\d)(?:-(\d))?", text)
    return tuple(n for first, last in parts for n in range(int(first), int(last or first) + 1))


def equation_index(functions, notebooks: Path) -> str:
    """Markdown: each equation as a notebook shows it, its functions and their notebooks."""
    formulas = {}
    for path in sorted(notebooks.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for match in FORMULA.finditer(cell.source):
                for number in re.findall(r"\d", match[1]):
                    formulas.setdefault(int(number), match[0])
    lines = []
    for number in EQUATIONS:
        lines += [f"\n(equation-{number})=\n## Eq. ({number})\n", formulas[number], ""]
        for function in (f for f in functions if number in f.equations):
            taught = "; ".join(f"[](notebooks/{name}.ipynb)" for name in function.notebooks)
            lines.append(f"- `{function.name}`: {function.summary} Taught in {taught}.")
    return "\n".join(lines)
