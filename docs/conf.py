"""The site: `python -m sphinx -W -b html docs OUT`. Nothing on its pages asks the network.

The executed notebooks are read from `notebooks/` in $LRC_OUT, or in `out/` where that is not set.
"""

import os
import shutil
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS / "_ext"), str(ROOT)]

from docstrings import google_to_rst  # noqa: E402
from equations import equation_index, functions_of_equations  # noqa: E402
from mathml import visit_displaymath, visit_math  # noqa: E402
from site_notebooks import landing, linked, prepare  # noqa: E402
from tables import read_tables, scoped  # noqa: E402

project = "LRC-BERT, step by step"
html_title = project
extensions = ["myst_nb", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "teaching/background.ipynb"]  # a deck, not a page

html_theme = "furo"
html_static_path = ["_static", "../results/figures"]
html_css_files = ["site.css"]
html_js_files = ["copy.js"]
html_show_copyright = html_copy_source = html_use_index = html_domain_indices = False
pygments_dark_style = "github-dark"
html_show_search_summary = False  # a request for each page found, which fails from a disk
html_math_renderer = "mathml"

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # no widgets from a server of others
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "attrs_block"]
myst_heading_anchors = 3
myst_update_mathjax = False

autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autosummary_context = {  # the order of the pages: the paper's, what it needs, then the rooms
    "first": "losses perturbation schedule models teacher distil training evaluate paper".split(),
    "last": "data runs results course cli".split(),
}
add_module_names = False
python_maximum_signature_line_length = 88
napoleon_use_param = napoleon_use_rtype = False
templates_path = ["_templates"]
default_role = "py:obj"

REPOSITORY = "OWNER/lrc-bert-kit"  # where Colab and Binder find the kit
FUNCTIONS = functions_of_equations(ROOT / "lrc_lib")


def read_source(app, name, content):
    """Markdown pages: links as the site has them. The index of equations is made here."""
    if name == "equations":
        content[0] += equation_index(FUNCTIONS, ROOT / "notebooks")
        for path in [*ROOT.glob("lrc_lib/*.py"), *ROOT.glob("notebooks/*.ipynb")]:
            app.env.note_dependency(str(path))
    if name == "index":
        content[0] = landing(content[0], ROOT)
    if app.env.doc2path(name).suffix == ".md":
        content[0] = linked(content[0])


def skip_fields(app, what, name, obj, skip, options):
    """The fields of a named tuple are in its docstring already."""
    return skip or type(obj).__name__ == "_tuplegetter"


def setup(app):
    shutil.rmtree(DOCS / "api", ignore_errors=True)  # it may hold pages of modules that are gone
    out = Path(os.environ.get("LRC_OUT") or ROOT / "out")
    prepare(ROOT, out, DOCS / "notebooks", FUNCTIONS, REPOSITORY)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    app.add_lexer("csv", TextLexer)
    app.connect("source-read", read_source)
    app.connect("doctree-read", read_tables)
    app.connect("html-page-context", scoped)
    app.connect("autodoc-process-docstring", google_to_rst, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", skip_fields)
