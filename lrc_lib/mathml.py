"""TeX as MathML, which browsers typeset without scripts, fonts or a network."""

import html
import re
import unicodedata

from .display import escaped, visible

INLINE = re.compile(r"\$(?=\S)([^$\n]{1,300}?)(?<=\S)\$(?!\d)")
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
TAGS = set(
    "math mrow mi mo mn mtext mspace msup msub msubsup munder mover munderover mfrac msqrt mroot "
    "mtable mtr mtd mstyle mpadded mphantom menclose mmultiscripts mprescripts none".split()
)
ATTRIBUTES = set(
    "display mathvariant stretchy fence form accent width height depth lspace rspace minsize "
    "maxsize linethickness columnalign rowspacing columnspacing displaystyle scriptlevel "
    "movablelimits separator symmetric".split()
)
# What the converter does not know, or writes so that browsers set it badly.
BEFORE = (
    (re.compile(r"\\[bB]ig+l\s*(?=\\langle)"), r"\\left"),
    (re.compile(r"\\[bB]ig+r\s*(?=\\rangle)"), r"\\right"),
    (re.compile(r"\\mathrm\{(\w\w+)\}"), r"\\operatorname{\1}"),  # one word, not its letters
)
AFTER = (
    (re.compile(r"<mi>(&#x027E[89];)</mi>"), r'<mo stretchy="false">\1</mo>'),
    (re.compile(r'<mi mathvariant="script">([A-Z])</mi>'), lambda m: f"<mi>{_script(m[1])}</mi>"),
    # a bar over one letter is an accent of its width
    (re.compile(r'<mo stretchy="true">&#x000AF;</mo>'), '<mo stretchy="false">&#x000AF;</mo>'),
)


def _script(letter: str) -> str:
    """The script form of a capital: browsers know it as a character, not as a variant."""
    for name in ("SCRIPT CAPITAL", "MATHEMATICAL SCRIPT CAPITAL"):
        try:
            return unicodedata.lookup(f"{name} {letter}")
        except KeyError:
            continue
    return letter


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
        made = made.replace(NAMESPACE, "")
        for pattern, replacement in AFTER:
            made = pattern.sub(replacement, made)
        elements = list(ElementTree.fromstring(made).iter())
    except Exception:  # the converter raises many kinds
        return ""
    names = {name for element in elements for name in element.attrib}
    if {element.tag for element in elements} - TAGS or names - ATTRIBUTES:
        return ""
    return made


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
