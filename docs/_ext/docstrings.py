"""The library's docstrings, Google style with TeX and Markdown's backticks, as reStructuredText."""

import re

# A displayed formula, a formula in the line, a literal of reStructuredText, a name or code.
MARKED = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$|``.+?``|`([^`]+)`", re.S)
EQUATION = re.compile(r"Eqs?\. \(?\d(?:[\d(), and-]*\d)?")
RETURNS = re.compile(r"(^ *Returns:\n +)", re.M)


def google_to_rst(app, what, name, obj, options, lines) -> None:
    """Sphinx's hook: changes `lines` in place. Sections are left to napoleon."""
    text = MARKED.sub(_marked, "\n".join(lines))
    text = EQUATION.sub(lambda m: re.sub(r"\d", r":ref:`\g<0> <equation-\g<0>>`", m[0]), text)
    text = re.sub(r"\bnotebooks/(\d\d_\w+)", r":doc:`/notebooks/\1`", text)
    # The colon keeps napoleon from reading what stands before the next one as a type.
    text = f": {text}" if what in ("property", "attribute") else RETURNS.sub(r"\1: ", text)
    lines[:] = text.split("\n")


def _marked(match) -> str:
    displayed, inline, code = (text and " ".join(text.split()) for text in match.groups())
    if displayed:
        return f"\n\n.. math:: {displayed}\n\n"
    if inline:
        return f":math:`{inline}`"
    if code and not re.fullmatch(r"[A-Za-z_][\w.]*", code):
        return f"``{code.replace('...', '…')}``"  # autosummary would end a sentence at "... "
    return match[0]  # a name: default_role makes it a link where it has a page
