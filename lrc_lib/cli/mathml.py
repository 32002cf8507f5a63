"""TeX as MathML, which browsers typeset without scripts, fonts or a network."""

import html
import re
import unicodedata

from lrc_lib.course.display import escaped
from lrc_lib.data.text import visible

INLINE = re.compile(r"\$(?=\S)([^$\n]{1,300}?)(?<=\S)\$(?!\d)")
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
TAGS = set(
    "math mrow mi mo mn mtext mspace msup msub msubsup munder mover munderover mfrac msqrt mroot "
    "mtable mtr mtd mstyle mpadded mphantom menclose mmultiscripts mprescripts none".split()
)
ATTRIBUTES = set(
    "display mathvariant stretchy fence form accent width height depth lspace rspace minsize "
    "maxsize linethickness columnalign rowspacing columnspacing displaystyle scriptlevel "
    "movablelimits separator symmetric class".split()
)
BEFORE = (  # what the converter does not know
    (re.compile(r"\\[bB]ig+l\s*(?=\\langle)"), r"\\left"),
    (re.compile(r"\\[bB]ig+r\s*(?=\\rangle)"), r"\\right"),
    (re.compile(r"\\mathrm\{(\w\w+)\}"), r"\\operatorname{\1}"),  # a word, not its letters
)
LINES = {"\u2015": "over", "\u23df": "under"}  # drawn by base.css: fonts seldom stretch them well
FENCES = "\u27e8\u27e9\u2016"  # angle brackets, double bar: as high as a letter


def _script(letter: str) -> str:
    """The script form of a capital: browsers know it as a character, not as a variant."""
    for name in ("SCRIPT CAPITAL", "MATHEMATICAL SCRIPT CAPITAL"):
        try:
            return unicodedata.lookup(f"{name} {letter}")
        except KeyError:
            continue
    return letter


def _mend(elements, block: bool) -> None:
    """Changes, in place, what the converter writes so that browsers set it badly."""
    for element in elements:
        text, mark = element.text or "", len(element) == 2 and element[1].text
        if element.tag in ("mover", "munder") and mark in LINES:
            element.tag = "mrow"
            element.set("class", LINES[mark])
            element.remove(element[1])
        elif element.get("mathvariant") == "script":
            element.text = _script(text)
            del element.attrib["mathvariant"]
        elif element.tag == "mo" and len(text) > 1 and text.isalpha():
            element.tag = "mi"  # a function's name has no spaces of its own
        elif text and text in FENCES and "form" not in element.attrib:
            element.tag = "mo"
            element.set("stretchy", "false")
        elif text == "\u00af":  # a bar over one letter is as wide as that
            element.set("stretchy", "false")
        elif block and element.tag == "msubsup" and element[0].text == "\u2211":
            element.tag = "munderover"


def mathml(tex: str, block: bool = False) -> str:
    """MathML of one formula, given without its dollar signs; "" where it gives no plain MathML.

    latex2mathml does not escape what is inside \\text{} and knows \\href: hence the check.
    """
    import xml.etree.ElementTree as ElementTree

    import latex2mathml.converter

    tex = visible(tex).strip()
    for pattern, replacement in BEFORE:
        tex = pattern.sub(replacement, tex)
    try:
        made = latex2mathml.converter.convert(tex, display="block" if block else "inline")
        root = ElementTree.fromstring(made.replace(NAMESPACE, ""))
    except Exception:  # the converter raises many kinds
        return ""
    elements = list(root.iter())
    _mend(elements, block)
    names = {name for element in elements for name in element.attrib}
    if {element.tag for element in elements} - TAGS or names - ATTRIBUTES:
        return ""
    return ElementTree.tostring(root, encoding="unicode")


def rich_text(text: str) -> str:
    """Escaped HTML in which `$...$` has become MathML; what is no formula stays as it is."""
    parts, end = [], 0
    for match in INLINE.finditer(text):
        parts += [escaped(text[end : match.start()]), mathml(match[1]) or escaped(match[0])]
        end = match.end()
    return "".join([*parts, escaped(text[end:])])


def rich_html(text: str) -> str:
    """HTML in whose text, between the tags, `$...$` has become MathML."""
    return re.sub(r"(?<=>)[^<]*\$[^<]*(?=<)", lambda m: rich_text(html.unescape(m[0])), text)
