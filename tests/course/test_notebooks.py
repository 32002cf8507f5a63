"""What every notebook must be on the page; nothing is executed here."""

import ast
import importlib
import re
import statistics
from pathlib import Path

import nbformat
import papermill
import pytest

import lrc_lib
from lrc_lib.course.notebook import NOTEBOOKS

ROOT = Path(lrc_lib.__file__).resolve().parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = sorted((ROOT / "lrc_lib").rglob("*.py"))
PARAMETERS = {
    "PROFILE": "laptop",
    "TASKS": "",
    "DATA": "",
    "DEVICE": "auto",
    "SEEDS": 0,
    "OUT": "",
    "SETTINGS": "",
}
TAGS = {"parameters", "setup", "interactive", "exercise", "check", "method"}
PLUMBING = {"parameters", "setup"}  # folded
LONGEST, MEDIAN = 25, 10  # lines of code in a cell
MOST_MINUTES = 60  # of reading
REPORTS = r"(session\.(figure|table|finding|note)|print)$"

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def cells(path, kind, tag=None):
    chosen = [cell for cell in read(path).cells if cell.cell_type == kind]
    return [c for c in chosen if tag is None or tag in c.metadata.get("tags", [])]


def code(path):
    return "\n".join(cell.source for cell in cells(path, "code"))


def calls(path, name):
    """Every call of `session.<name>` in a notebook, as syntax trees."""
    return [
        node
        for node in ast.walk(ast.parse(code(path)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"session.{name}"
    ]


def prose(path):
    """The markdown, without code blocks and inline code."""
    text = "\n\n".join(cell.source for cell in cells(path, "markdown"))
    return re.sub(r"`[^`]*`", "", re.sub(r"```.*?```", "", text, flags=re.S))


def reading_minutes(path) -> int:
    """Minutes to read a notebook without its exercises: 200 words a minute, 15 lines of code, and
    half a minute for a figure or a table."""
    words, shown = 0, []
    for cell in teaching_cells(path):
        if cell.cell_type == "markdown":
            words += len(re.sub(r"```.*?```", "", cell.source, flags=re.S).split())
        elif not PLUMBING & set(cell.metadata.get("tags", [])):
            shown.append(cell.source)
    lines = sum(bool(line.strip()) for source in shown for line in source.splitlines())
    seen = sum(len(re.findall(r"session\.(?:figure|table)\(", source)) for source in shown)
    return round(words / 200 + lines / 15 + seen / 2)


def teaching_cells(path):
    """All cells but the exercises."""
    inside = False
    for cell in read(path).cells:
        inside = (inside or "## Exercises" in cell.source) and "## Summary" not in cell.source
        if not inside:
            yield cell


@each_notebook
def test_the_header_says_how_long_reading_takes(path):
    minutes = reading_minutes(path)
    assert minutes <= MOST_MINUTES
    stated = re.search(r"\| Study time \| about (\d+) minutes", read(path).cells[0].source)
    assert abs(int(stated[1]) - minutes) <= 5, f"about {minutes} minutes of reading"


@each_notebook
def test_few_cells_do_nothing_but_report(path):
    """A cell only reports if half of its lines or more show figures, tables and findings."""
    only = 0
    for cell in (c for c in teaching_cells(path) if c.cell_type == "code"):
        lines = [0, 0]
        for statement in ast.parse(cell.source).body:
            calls = {
                line
                for node in ast.walk(statement)
                if isinstance(node, ast.Call) and re.match(REPORTS, ast.unparse(node.func))
                for line in range(node.lineno, node.end_lineno + 1)
            }
            lines[0] += len(calls)
            lines[1] += statement.end_lineno - statement.lineno + 1
        only += lines[0] >= lines[1] / 2 and "session." in cell.source
    number = len(cells(path, "code"))
    assert only <= 0.3 * number, f"{only} of {number} code cells only report"


@each_notebook
def test_plumbing_is_folded_after_the_question(path):
    """Settings and imports stand together, behind the title and the first question.

    They are two cells: papermill puts its values between them, so that `start` gets those.
    """
    tagged = [PLUMBING & set(cell.metadata.get("tags", [])) for cell in read(path).cells]
    first = tagged.index({"parameters"})
    assert first <= 2 and [tag for tag in tagged if tag] == [{"parameters"}, {"setup"}]
    assert tagged[first + 1] == {"setup"}
    for cell in read(path).cells[first : first + 2]:
        assert cell.metadata["jupyter"] == {"source_hidden": True}


def test_there_are_notebooks_and_no_stranger_among_them():
    assert PATHS
    assert {path.stem for path in PATHS} <= set(NOTEBOOKS)


@each_notebook
def test_is_a_valid_stripped_notebook_with_ids(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata and "papermill" not in notebook.metadata
    ids = [cell.id for cell in notebook.cells]
    assert all(ids) and len(set(ids)) == len(ids)
    for cell in cells(path, "code"):
        assert cell.outputs == [] and cell.execution_count is None
    for cell in notebook.cells:
        assert cell.source.strip(), f"cell {cell.id} is empty"
        assert set(cell.metadata) <= {"tags", "slideshow", "jupyter"}
        assert set(cell.metadata.get("tags", [])) <= TAGS


@each_notebook
def test_has_one_parameters_cell_that_papermill_understands(path):
    (cell,) = cells(path, "code", "parameters")
    *installer, a, b, c, d, e, f, g = ast.parse(cell.source).body
    assignments = [a, b, c, d, e, f, g]
    values = {a.targets[0].id: ast.literal_eval(a.value) for a in assignments}
    assert values == PARAMETERS and list(values) == list(PARAMETERS)
    # papermill reads the cell line by line; an "=" in a comment makes it lose the parameter.
    seen = papermill.inspect_notebook(str(path).replace("{", "{{").replace("}", "}}"))
    assert set(seen) == set(PARAMETERS)


@each_notebook
def test_starts_under_its_own_name_with_every_parameter_and_finishes_once(path):
    tree = ast.parse(code(path))
    (begun,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "start"
    ]
    assert ast.literal_eval(begun.args[0]) == path.stem
    handed_over = {ast.unparse(node) for node in ast.walk(begun) if isinstance(node, ast.Name)}
    assert set(PARAMETERS) <= handed_over
    assert len(calls(path, "finish")) == 1
    assert "session.finish()" in cells(path, "code")[-1].source


@each_notebook
def test_code_cells_are_short(path):
    sources = [cell.source.splitlines() for cell in cells(path, "code")]
    counted = [sum(bool(line.strip()) for line in lines) for lines in sources]
    assert max(map(len, sources)) <= LONGEST
    assert statistics.median(counted) <= MEDIAN
    assert max(len(line) for line in code(path).splitlines()) <= 100


@each_notebook
def test_figures_and_endings_go_through_the_session(path):
    source = code(path)
    for forbidden in (r"plt\.show\(", r"\.savefig\(", r"sys\.exit", r"\bexit\(", r"display\(fig"):
        assert not re.search(forbidden, source), f"{forbidden} has no place in a notebook"
    assert not re.search(r"^\s*[!%]", source, flags=re.M), "no shell lines, no magics"
    names = []
    for call in calls(path, "figure"):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        assert "alt" in keywords, f"line {call.lineno}: a figure without alt text"
        names.append(ast.unparse(call.args[1] if len(call.args) > 1 else keywords["name"]))
    assert len(set(names)) == len(names), "figures with the same name replace each other"
    assert not re.search(r"!\[[^\]]*\]\(https?:|<img", prose(path)), "no remote images"


@each_notebook
def test_widgets_are_built_only_in_cells_tagged_interactive(path):
    for cell in cells(path, "code"):
        if re.search(r"ipywidgets|explore_\w+\(", cell.source):
            assert "interactive" in cell.metadata.get("tags", [])


def resolve(dotted):
    """The object that a dotted name means; AttributeError or ImportError if there is none."""
    parts = dotted.split(".")
    thing = importlib.import_module(parts[0])
    for index, part in enumerate(parts[1:], start=2):
        if not hasattr(thing, part):
            importlib.import_module(".".join(parts[:index]))
        thing = getattr(thing, part)
    return thing


@each_notebook
def test_every_library_name_exists(path):
    text = "\n".join(cell.source for cell in read(path).cells)
    for dotted in set(re.findall(r"\blrc_lib(?:\.[A-Za-z_]\w*)+", text)):
        resolve(dotted)
    for node in ast.walk(ast.parse(code(path))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "lrc_lib":
            for alias in node.names:
                assert not alias.name.startswith("_"), "notebooks use public names only"
                resolve(f"{node.module}.{alias.name}")


@each_notebook
def test_worked_solutions_are_python(path):
    solutions = [
        block
        for cell in cells(path, "markdown")
        for fold in re.findall(r"<details>.*?</details>", cell.source, flags=re.S)
        for block in re.findall(r"```python\n(.*?)```", fold, flags=re.S)
    ]
    for block in solutions:
        ast.parse(block)
    assert len(solutions) == len(cells(path, "code", "exercise"))


@each_notebook
def test_exercises_have_their_four_cells_and_a_number_of_their_own(path):
    numbers, all_cells = [], read(path).cells
    for index, cell in enumerate(all_cells):
        if "exercise" not in cell.metadata.get("tags", []):
            continue
        question, check, folds = (all_cells[index + i] for i in (-1, 1, 2))
        head = r"### Exercise (\d)\.(\d) .+\n\n[●○]{3} (easy|medium|hard), \d+ minutes. Trains: "
        notebook, number, _ = re.match(head, question.source).groups()
        assert notebook == path.stem[1]
        numbers.append(int(number))
        assert check.metadata["tags"] == ["check"]
        assert check.source.startswith(f"result = check.ex_0{notebook}_{number}(")
        assert re.findall(r"<summary>(.*?)</summary>", folds.source) == [
            "Hint 1",
            "Hint 2",
            "Solution",
        ]
        for function in ast.parse(cell.source).body:
            assert isinstance(function, ast.FunctionDef) and function.returns
            assert ast.unparse(function.body[-1]) == "raise NotImplementedError"
            assert ast.get_docstring(function)
    assert numbers == list(range(1, len(numbers) + 1))


@each_notebook
def test_headings_skip_no_level(path):
    levels = [len(marks) for marks in re.findall(r"^(#+) ", prose(path), flags=re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(ROOT / "lrc_lib")))
def test_docstrings_name_notebooks_that_exist(module):
    named = set(re.findall(r"\bnotebooks/(\d\d_\w+)", module.read_text(encoding="utf-8")))
    assert named <= set(NOTEBOOKS)
