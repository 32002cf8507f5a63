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
HOSTILE = r"<p>$\text{&lt;script&gt;alert(1)&lt;/script&gt;}$, $5 and $6</p>"
FUNCTIONS = """cos_nce angular_distance transformer_layer_loss soft_label_loss hard_label_loss
total_loss perturb_embeddings perturb_embeddings""".split()  # of Eqs. (1) to (8)


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.path, self.tags, self.text = path, [], path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.ids = {attrs["id"] for _, attrs in self.tags if "id" in attrs}

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def build(store, factory):
    """The documented command: why it failed ("": it did not), and {path within the site: Page}."""
    out = factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-b", "html", ROOT / "docs", out]
    environment = os.environ | {"LRC_OUT": str(store)}
    with FileLock(factory.getbasetemp().parent / "docs.lock"):  # pages are made in docs/, too
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    failure = done.stderr if done.returncode else ""  # torch may warn: a CUDA build without a GPU
    assert failure or not done.returncode
    return failure, {p.relative_to(out).as_posix(): Page(p) for p in out.rglob("*.html")}


def store_of(folder, text):
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / f"{NAME}.ipynb").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """All notebooks as sources but one, which has outputs."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{NAME}.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "plots." in cell.source)
    about = {"image/png": {"alt": 'A dot of "one" pixel', "width": 40}}
    cell.outputs = [
        new_output("display_data", {"image/png": "AAAA"}, metadata=about),
        new_output("display_data", {"text/html": "<b>$a &lt; b$</b>" + HOSTILE}),
    ]
    store = store_of(tmp_path_factory.mktemp("store"), nbformat.writes(notebook))
    errors, pages = build(store, tmp_path_factory)
    assert not errors
    return pages


def test_outputs_are_shown_and_a_notebook_without_them_names_its_command(site):
    text = site[f"notebooks/{NAME}.html"].text
    assert 'alt="A dot of &quot;one&quot; pixel"' in text and HOSTILE in text
    assert re.search(r"<b><math[^>]*><mrow><mi>a</mi><mo>&lt;</mo><mi>b</mi></mrow></math>", text)
    assert "check an answer" in text and "Not executed" not in text
    for name in NOTEBOOKS.keys() - {NAME}:
        said = re.search(r"Not executed.*?</p>", site[f"notebooks/{name}.html"].text, re.S)[0]
        assert f"reproduce.py --only {name[:2]}" in re.sub(r"<[^>]+>", "", said)


def test_the_first_page_shows_the_claims_and_a_card_for_each_notebook(site):
    tags = site["index.html"].tags
    cards = [attrs["href"] for _, attrs in tags if attrs.get("class") == "card"]
    assert cards == [f"notebooks/{name}.html" for name in NOTEBOOKS]
    assert any(tag == "svg" and attrs.get("class") == "forest" for tag, attrs in tags)
    assert "<!-- c" not in site["index.html"].text


def test_a_notebook_can_be_downloaded_and_launched(site):
    for name in NOTEBOOKS:
        page = site[f"notebooks/{name}.html"]
        links = [attrs.get("href") or "" for tag, attrs in page.tags if tag == "a"]
        (download,) = [link for link in links if link.endswith(f"{name}.ipynb") and "_dow" in link]
        source = (ROOT / "notebooks" / f"{name}.ipynb").read_bytes()
        assert (page.path.parent / download).read_bytes() == source
        assert len([link for link in links if link.endswith(f"notebooks/{name}.ipynb")]) == 2


def test_nothing_is_requested_and_every_link_leads_somewhere(site):
    root = site["index.html"].path.parent
    for page in site.values():
        for tag, attrs in page.tags:
            fetched = [attrs.get(key) or "" for key in ("src", "srcset", "data", "poster")]
            fetched += [attrs["href"]] if tag == "link" else []
            assert not any(re.match(r"(https?:)?//", address) for address in fetched), attrs
            address = urlsplit(attrs.get("href") or attrs.get("src") or "")
            if address.scheme:
                continue
            target = (page.path.parent / (unquote(address.path) or page.path.name)).resolve()
            assert target.is_file(), (page.path, attrs)
            if tag == "a" and address.fragment and target.suffix == ".html":
                ids = site[target.relative_to(root).as_posix()].ids
                assert unquote(address.fragment) in ids, (page.path, attrs)
    for sheet in root.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\([\"']?(https?:)?//", text), sheet


@pytest.mark.parametrize("number, name", list(enumerate(FUNCTIONS, 1)))
def test_an_equation_links_its_function_and_a_notebook_both_ways(site, number, name):
    index = site["equations.html"].text.split(f'id="equation-{number}"')[1].split("<section")[0]
    assert "<math" in index
    (api,) = re.findall(rf'href="(api/[^"]*\.{name})"', index)
    path, _, anchor = api.partition("#")
    function = site[path].text.split(f'id="{anchor}"')[1].split('<dt class="sig')[0]
    assert f'href="../equations.html#equation-{number}"' in function
    notebooks = re.findall(r'href="\.\./(notebooks/\w+\.html)"', function)
    assert notebooks and all(f'href="{notebook}"' in index for notebook in notebooks)
    for notebook in notebooks:
        links = {attrs.get("href") for _, attrs in site[notebook].tags}
        assert {f"../{api}", f"../equations.html#equation-{number}"} <= links


def test_a_file_that_is_no_notebook_is_named(tmp_path, tmp_path_factory):
    errors, _ = build(store_of(tmp_path, "{"), tmp_path_factory)
    assert f"{NAME}.ipynb" in errors and "--only 01" in errors


def test_every_page_of_the_smoke_run_is_sound_in_a_browser(smoke, tmp_path_factory):
    errors, pages = build(smoke[0], tmp_path_factory)
    assert not errors and not any("Not executed" in page.text for page in pages.values())
    assert sum(page.text.count("<fieldset") for page in pages.values()) == 5, "an explorer each"
    with browser_page() as page:
        found = {name: faults_of(page, made.path.as_uri()) for name, made in pages.items()}
        assert found.pop("search.html") == ["not one h1"]  # the theme's page
        assert {name: faults for name, faults in found.items() if faults} == {}
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(pages["index.html"].path.as_uri())
        page.fill("input.sidebar-search", "optimum teacher")
        page.press("input.sidebar-search", "Enter")
        page.locator("ul.search a", has_text="Why measure the angle").first.click()
        page.wait_for_url(f"**/{NAME}.html*")
        page.goto(pages["speed.html"].path.as_uri())
        assert page.locator("button.copy").count() == page.locator("div.highlight").count() > 0
        assert not page.problems
