"""A page for each equation: its formula, the functions that compute it, the sections that teach it.

Nothing but its name and place in the paper is written here. The formula is the notebooks', the
functions are those of the library whose docstring names the equation, and the sections are found
by their text.
"""

import ast
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from lrc_lib.course.display import escaped
from lrc_lib.paper import ARXIV, DOI

EQUATIONS = {  # number: (what it is, the paper's section)
    1: ("COS-NCE", "COS-based NCE loss"),
    2: ("The angular distance", "COS-based NCE loss"),
    3: ("The loss of a layer", "Distillation for transformer-layer"),
    4: ("The soft label loss", "Distillation for predict-layer"),
    5: ("The hard label loss", "Distillation for predict-layer"),
    6: ("The whole loss", "Distillation for predict-layer"),
    7: ("The perturbed embeddings", "Training based on Gradient Perturbation"),
    8: ("The gradient that perturbs them", "Training based on Gradient Perturbation"),
}
MODULES = ("losses", "perturbation")
# "Eq. (1)", "Eqs. (1), (2)", "Eqs. (4)-(8)", "Eqs. (4) to (6)"
NAMED = re.compile(r"Eqs?\. \(\d\)(?:(?:, | and |, and |-| to )\(\d\))*")
IN_DOCSTRING = re.compile(r"\(Eqs?\. (\d)(?: and (\d))?\)")
TAGGED = re.compile(r"\\tag\{([\d, ]+)\}")
RELATIONS = {
    "shows": "Shown in",
    "uses": "Computed in",
    "names": "Spoken of in",
}


def page_of(number: int) -> str:
    """The file of an equation's page."""
    return f"eq-{number}.html"


@dataclass(frozen=True)
class Function:
    """A public function of the library and the numbers of the equations it computes."""

    name: str
    dotted: str
    numbers: tuple[int, ...]
    call: Callable


@functools.cache
def functions() -> tuple[Function, ...]:
    """The functions whose docstring begins with "... (Eq. N)", in the order of the source."""
    found = []
    for module in (importlib.import_module(f"lrc_lib.{name}") for name in MODULES):
        for name, call in vars(module).items():
            if name.startswith("_") or not getattr(call, "__module__", "").startswith("lrc_lib."):
                continue
            head = (inspect.getdoc(call) or "").split("\n\n")[0]
            for match in IN_DOCSTRING.finditer(head):
                numbers = tuple(int(n) for n in match.groups() if n)
                found.append(Function(name, f"{module.__name__}.{name}", numbers, call))
    return tuple(found)


def numbers_named(text: str) -> set[int]:
    """The equations that a text speaks of; "Eqs. (4)-(6)" are three."""
    found = set()
    for match in NAMED.finditer(text):
        for first, last in re.findall(r"\((\d)\)(?:(?:-| to )\((\d)\))?", match[0]):
            found |= set(range(int(first), int(last or first) + 1))
    return found


def numbers_shown(text: str) -> set[int]:
    """The equations that a text displays with their number."""
    return {int(n) for tag in TAGGED.findall(text) for n in re.findall(r"\d+", tag)}


def relation(section, number: int) -> str:
    """How a `cells.Section` treats an equation: a key of `RELATIONS`, or ""."""
    if number in numbers_shown(section.markdown):
        return "shows"
    calls = [f.name for f in functions() if number in f.numbers]
    if any(re.search(rf"\b{name}\(", section.code) for name in calls):
        return "uses"
    return "names" if number in numbers_named(section.markdown) else ""


def formula(number: int, sections) -> str:
    """The first displayed formula with this number, as Markdown; "" where no notebook has it."""
    for section in sections:
        for shown in re.findall(r"\$\$.*?\$\$", section.markdown, re.S):
            if number in numbers_shown(shown):
                return shown
    return ""


def signature(call) -> str:
    """`def name(...)` with one argument a line, as in the source."""
    parameters = inspect.signature(call).parameters.values()
    lines = "".join(f"    {parameter},\n" for parameter in parameters)
    text = f"def {call.__name__}(\n{lines})"
    return text.replace("torch.Tensor", "Tensor")


def source_without_docstring(call) -> str:
    """The source of a function; its docstring, shown already, is left out."""
    source = inspect.getsource(call)
    text = ast.parse(textwrap.dedent(source)).body[0].body[0]
    lines = source.splitlines()
    return "\n".join(lines[: text.lineno - 1] + lines[text.end_lineno :])


def docstring_markdown(call) -> str:
    """A docstring of this library as Markdown: its sections become lists, notebooks links."""
    blocks = []
    for block in inspect.getdoc(call).split("\n\n"):
        title, _, rest = block.partition("\n")
        if re.fullmatch(r"(Args|Returns|Raises):", title):
            blocks.append(f"**{title[:-1]}**\n\n" + _items(inspect.cleandoc("\n" + rest)))
        else:
            block = re.sub(r"(?<!\$)\$[^$]+\$(?!\$)", lambda m: m[0].replace("\n", " "), block)
            blocks.append(re.sub(r"\bnotebooks/(\d\d_\w+)", r"[\1](\1.html)", block))
    return "\n\n".join(blocks)


def _items(text: str) -> str:
    """`name: what it is` a line, going on where it is indented, as a list; else as it is."""
    if not re.match(r"[\w, ]+: ", text):
        return text
    lines = []
    for line in text.splitlines():
        if line.startswith(" "):
            lines.append("  " + line.strip())
        else:
            names, _, rest = line.partition(": ")
            lines.append(f"- `{names}`: {rest}")
    return "\n".join(lines)


def equation_page(number: int, sections) -> str:
    """The body of an equation's page.

    Args:
        sections: all `cells.Section` of the notebooks, in order.
    """
    from lrc_lib.cli.site.text import to_html

    name, place = EQUATIONS[number]
    html = [f"<h1>Equation ({number}): {escaped(name)}</h1>"]
    html += [to_html(formula(number, sections) or "No notebook shows this equation.")]
    html += ["<h2>In the paper</h2>"]
    html.append(
        f"<p>Equation ({number}), section “{escaped(place)}” of Fu et al., AAAI 2021 "
        f'(<a href="https://doi.org/{DOI}">doi</a>, '
        f'<a href="https://arxiv.org/abs/{ARXIV}">arXiv</a>).</p>'
    )
    html += ["<h2>In the library</h2>"]
    html += [_function(f) for f in functions() if number in f.numbers]
    html += ["<h2>In the notebooks</h2>", _taught(number, sections)]
    html.append(_neighbours(number))
    return "\n".join(html)


def _function(function: Function) -> str:
    from lrc_lib.cli.site.text import highlighted, to_html

    source = source_without_docstring(function.call)
    file = function.dotted.rpartition(".")[0].replace(".", "/") + ".py"
    return (
        f'<section class="function"><h3 id="{function.name}"><code>{function.dotted}</code></h3>\n'
        f"{highlighted(signature(function.call))}"
        f"{to_html(docstring_markdown(function.call))}"
        f"<details><summary>Source, from {file}</summary>\n{highlighted(source)}</details>"
        "</section>"
    )


def _taught(number: int, sections) -> str:
    html = []
    for key, says in RELATIONS.items():
        found = [s for s in sections if relation(s, number) == key]
        if found:
            items = "".join(
                f'<li><a href="{escaped(s.url)}">{escaped(s.title)}</a> '
                f"<small>{escaped(s.page_title)}</small></li>"
                for s in found
            )
            html.append(f"<p>{says}</p><ul>{items}</ul>")
    return "\n".join(html) or "<p>No section of a notebook speaks of it.</p>"


def _neighbours(number: int) -> str:
    links = [
        f'<a rel="{rel}" href="{page_of(n)}">Equation ({n}): {escaped(EQUATIONS[n][0])}</a>'
        for rel, n in (("prev", number - 1), ("next", number + 1))
        if n in EQUATIONS
    ]
    return f'<nav class="turn" aria-label="Neighbouring equations">{"".join(links)}</nav>'


def overview(sections) -> str:
    """The body of the page that lists all equations."""
    from lrc_lib.cli.site.text import to_html

    shown = set()
    html = ["<h1>The equations</h1>"]
    html += ["<p>Each has a page: formula, code, and where it is taught.</p>"]
    for number, (name, place) in EQUATIONS.items():
        html.append(
            f'<h2><a href="{page_of(number)}">({number}) {escaped(name)}</a></h2>'
            f"<p><small>Section “{escaped(place)}”</small></p>"
            f"{to_html(formula(number, sections), shown)}"
        )
    return "\n".join(html)
