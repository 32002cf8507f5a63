"""The site: no warning, no request, links that resolve, equations linked both ways."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from audit import faults_of
from browser import browser_page
from filelock import FileLock
from nbformat.v4 import new_output

from lrc_lib.course.notebook import NOTEBOOKS, ROOT

NAME = "01_cos_nce_geometry"
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
HOSTILE = r"<p>$\text{&lt;script&gt;alert(1)&lt;/script&gt;}$, $\frac{1$, $5 and $6</p>"
EQUATIONS = {
    1: "cos_nce", 2: "angular_distance", 3: "transformer_layer_loss", 4: "soft_label_loss",
    5: "hard_label_loss", 6: "total_loss", 7: "perturb_embeddings", 8: "perturb_embeddings",
}  # fmt: skip


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.path, self.tags, self.text = path, [], path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.ids = {attrs["id"] for _, attrs in self.tags if "id" in attrs}

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def build(store, out, factory):
    """The documented command; returns what it said and {path within `out`: Page}."""
    command = [sys.executable, "-m", "sphinx", "-W", "-b", "html", str(ROOT / "docs"), str(out)]
    with FileLock(factory.getbasetemp().parent / "docs.lock"):  # pages are made in docs/, too
        done = subprocess.run(
            command, env=os.environ | {"LRC_OUT": str(store)}, capture_output=True, text=True
        )
    return done, {path.relative_to(out).as_posix(): Page(path) for path in out.rglob("*.html")}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """All notebooks as sources but one, which has outputs."""
    store, out = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("site")
    notebook = nbformat.read(ROOT / "notebooks" / f"{NAME}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    about = {"image/png": {"alt": 'A dot of "one" pixel', "width": 40}}
    code[3].outputs = [new_output("display_data", {"image/png": PNG}, metadata=about)]
    code[4].outputs = [new_output("display_data", {"text/html": "<b>$a &lt; b$</b>" + HOSTILE})]
    (store / "notebooks").mkdir()
    nbformat.write(notebook, store / "notebooks" / f"{NAME}.ipynb")
    done, pages = build(store, out, tmp_path_factory)
    assert done.returncode == 0, done.stderr
    return pages


def test_outputs_are_shown_and_a_notebook_without_them_names_its_command(site):
    text = site[f"notebooks/{NAME}.html"].text
    assert 'alt="A dot of &quot;one&quot; pixel"' in text and HOSTILE in text
    assert re.search(
        r"<b><math[^>]*><mrow><mi>a</mi><mo>&lt;</mo><mi>b</mi></mrow></math></b>", text
    )
    assert "to check an answer" in text and "Not executed" not in text
    for name in NOTEBOOKS.keys() - {NAME}:
        text = site[f"notebooks/{name}.html"].text
        assert "Not executed" in text and f"--only {name[:2]}</span>" in text.replace(" ", " ")


def test_nothing_is_requested_and_every_link_leads_somewhere(site):
    root = site["index.html"].path.parent
    for page in site.values():
        for tag, attrs in page.tags:
            fetched = [attrs.get(key) or "" for key in ("src", "srcset", "data", "poster")]
            fetched += [attrs["href"]] if tag in ("link", "use") else []
            assert not any(re.match(r"(https?:)?//", address) for address in fetched), attrs
            address = urlsplit(attrs.get("href") or attrs.get("src") or "")
            if address.scheme:
                continue
            target = (page.path.parent / unquote(address.path)).resolve()
            target = page.path if not address.path else target
            assert target.is_file(), (page.path, attrs)
            if address.fragment and target.suffix == ".html" and tag == "a":
                ids = site[target.relative_to(root).as_posix()].ids
                assert unquote(address.fragment) in ids, (page.path, attrs)
    for sheet in root.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\([\"']?(https?:)?//", text), sheet


@pytest.mark.parametrize("number, name", EQUATIONS.items())
def test_an_equation_links_its_function_and_a_notebook_both_ways(site, number, name):
    index = site["equations.html"].text.split(f'id="equation-{number}"')[1].split("<section")[0]
    assert "<math" in index
    (api,) = re.findall(rf'href="(api/[^"]*\.{name})"', index)
    path, _, anchor = api.partition("#")
    function = site[path].text.split(f'id="{anchor}"')[1].split("<dt class=")[0]
    assert f'href="../equations.html#equation-{number}"' in function
    notebooks = re.findall(r'href="\.\./(notebooks/\w+\.html)"', function)
    assert notebooks and all(f'href="{notebook}"' in index for notebook in notebooks)
    for notebook in notebooks:
        links = {attrs.get("href") for _, attrs in site[notebook].tags}
        assert {f"../{api}", f"../equations.html#equation-{number}"} <= links


def test_a_file_that_is_no_notebook_is_named(tmp_path, tmp_path_factory):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / f"{NAME}.ipynb").write_text("{")
    done, _ = build(tmp_path, tmp_path / "site", tmp_path_factory)
    assert done.returncode and f"{NAME}.ipynb" in done.stderr and "--only 01" in done.stderr


def test_x(tmp_path_factory):
    done, pages = build('/tmp/w/site_out', tmp_path_factory.mktemp("smoke"), tmp_path_factory)
    assert done.returncode == 0, done.stderr
    assert not [name for name, page in pages.items() if "Not executed" in page.text]
    with browser_page() as page:
        found = {name: faults_of(page, made.path.as_uri()) for name, made in pages.items()}
        assert {name: faults for name, faults in found.items() if faults} == {}
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(pages["index.html"].path.as_uri())
        page.fill("input.sidebar-search", "optimum teacher")
        page.press("input.sidebar-search", "Enter")
        page.locator("ul.search a", has_text="Why measure the angle").first.click()
        page.wait_for_url(f"**/{NAME}.html*")
        assert not page.problems
