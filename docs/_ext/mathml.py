"""TeX as MathML, which browsers set without scripts, fonts or a network."""

import html
import re
import unicodedata
import xml.etree.ElementTree as ElementTree

import latex2mathml.converter
from docutils import nodes

TAG = re.compile(r"\\tag\{([\d, ]+)\}")
INLINE = re.compile(r"\$(?=\S)([^$\n]{1,300}?)(?<=\S)\$(?!\d)")
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
TAGS = set(
    "math mrow mi mo mn mtext mspace msup msub msubsup munder mover munderover mfrac msqrt mroot "
    "mtable mtr mtd mstyle mpadded".split()
)
ATTRIBUTES = set(
    "display mathvariant stretchy fence form accent width height depth lspace rspace minsize "
    "maxsize columnalign rowspacing columnspacing displaystyle scriptlevel movablelimits separator "
    "class".split()
)
BEFORE = (  # what the converter does not know
    (re.compile(r"\\[bB]ig+l\s*(?=\\langle)"), r"\\left"),
    (re.compile(r"\\[bB]ig+r\s*(?=\\rangle)"), r"\\right"),
    (re.compile(r"\\mathrm\{(\w\w+)\}"), r"\\operatorname{\1}"),  # a word, not its letters
)
LINES = {"\u2015": "over", "\u23df": "under"}  # drawn by site.css: few fonts stretch them well


def mathml(tex: str, block: bool = False) -> str:
    """MathML of one formula, given without its dollar signs.

    Raises:
        ValueError: the converter cannot read it, or makes more of it than a formula: it does not
            escape what is inside \\text{}, and knows \\href.
    """
    for pattern, replacement in BEFORE:
        tex = pattern.sub(replacement, tex.strip())
    try:
        made = latex2mathml.converter.convert(tex, display="block" if block else "inline")
        root = ElementTree.fromstring(made.replace(NAMESPACE, ""))
    except Exception as error:  # the converter raises many kinds
        raise ValueError(f"no MathML for the formula {tex!r}: {error!r}") from None
    elements = list(root.iter())
    for element in elements:
        _mend(element, block)
    names = {name for element in elements for name in element.keys()}
    if {element.tag for element in elements} - TAGS or names - ATTRIBUTES:
        raise ValueError(f"not a plain formula: {tex!r}")
    return ElementTree.tostring(root, encoding="unicode")


def _mend(element, block: bool) -> None:
    """Changes, in place, what the converter writes so that browsers set it badly."""
    text, mark = element.text or "", len(element) == 2 and element[1].text
    if element.tag in ("mover", "munder") and mark in LINES:
        element.tag = "mrow"
        element.set("class", LINES[mark])
        element.remove(element[1])
    elif element.get("mathvariant") == "script":  # browsers know the letter, not the variant
        names = (f"SCRIPT CAPITAL {text}", f"MATHEMATICAL SCRIPT CAPITAL {text}")
        element.text = next(c for n in names if (c := _character(n)))
        del element.attrib["mathvariant"]
    elif element.tag == "mo" and len(text) > 1 and text.isalpha():
        element.tag = "mi"  # a function's name has no spaces of its own
    elif text and text in "\u27e8\u27e9\u2016" and "form" not in element.attrib:
        element.tag = "mo"  # angle brackets and double bar: as high as a letter
        element.set("stretchy", "false")
    elif text == "\u00af":  # a bar over one letter is as wide as the letter
        element.set("stretchy", "false")
    elif block and element.tag == "msubsup" and element[0].text == "\u2211":
        element.tag = "munderover"


def _character(name: str) -> str:
    try:
        return unicodedata.lookup(name)
    except KeyError:
        return ""


def in_html(text: str) -> str:
    """HTML in whose text, between the tags, `$...$` has become MathML. Other text stays."""

    def formula(match):
        try:
            return mathml(html.unescape(match[1]))
        except ValueError:  # a reader's data may hold dollar signs
            return match[0]

    return re.sub(r"(?<=>)[^<]*\$[^<]*(?=<)", lambda m: INLINE.sub(formula, m[0]), text)


def visit_math(self, node) -> None:
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_displaymath(self, node) -> None:
    """A displayed formula; its number leads to the index of equations."""
    tex, tag = node.astext(), TAG.search(node.astext())
    page = self.builder.get_relative_uri(self.builder.current_docname, "equations")
    numbers = re.findall(r"\d", tag[1]) if tag else []
    links = " ".join(f'<a href="{page}#equation-{n}">({n})</a>' for n in numbers)
    formula = mathml(TAG.sub("", tex), block=True)
    self.body.append(f'<div class="math formula">{formula}<span>{links}</span></div>')
    raise nodes.SkipNode
