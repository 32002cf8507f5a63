"""The site: whole, offline, searchable, linked both ways; what was not executed is named."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from audit import faults_of
from browser import browser_page
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lrc_lib.cli.commands import main
from lrc_lib.cli.mathml import mathml, rich_html
from lrc_lib.cli.site import make_site
from lrc_lib.cli.site.equations import EQUATIONS, functions, numbers_named
from lrc_lib.cli.site.text import to_html
from lrc_lib.course.notebook import NOTEBOOKS, write_json
from lrc_lib.errors import InputError

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
NAME = "01_cos_nce_geometry"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def ids(self):
        return {attrs["id"] for _, attrs in self.tags if "id" in attrs}

    def addresses(self):
        return [attrs[key] for _, attrs in self.tags for key in ("href", "src") if attrs.get(key)]


def shown(html, **metadata):
    return new_output("display_data", {"text/html": html, "text/plain": "-"}, metadata=metadata)


@pytest.fixture
def store(tmp_path):
    """The output folder of one executed notebook, made by hand."""
    picture = new_output(
        "display_data",
        {"image/png": PNG},
        metadata={"image/png": {"alt": 'A dot of "one" pixel, <b>black</b>', "width": 40}},
    )
    table = "<style>p{}</style><table><caption>C</caption><tr><th scope='row'>a</th></tr></table>"
    cells = [
        new_markdown_cell(
            "# 01 Why?\n\nSee Eq. (1).\n\n## A heading, $x^2$\n\n" + r"$$a \tag{1}$$"
        ),
        new_code_cell("A = 1", metadata={"tags": ["parameters"]}),
        new_code_cell(
            "# not a heading\ncos_nce(1)",
            outputs=[
                picture,
                shown("<p><em>Its caption with $z^T$</em></p>"),
                shown("<blockquote><strong>Found here:</strong> $x &lt; y$</blockquote>"),
                shown(table),
                new_output("stream", name="stdout", text="said \x1b[31m<b>so</b>"),
            ],
        ),
        new_code_cell("s()", metadata={"tags": ["interactive"]}, outputs=[shown("A WIDGET")]),
        new_code_cell("c()", metadata={"tags": ["check"]}, outputs=[shown("NO ANSWER YET")]),
        new_markdown_cell("<details><summary>Hint</summary>\n\nTry *this*.\n\n</details>"),
    ]
    (tmp_path / "store" / "notebooks").mkdir(parents=True)
    nbformat.write(new_notebook(cells=cells), tmp_path / "store" / "notebooks" / f"{NAME}.ipynb")
    return tmp_path / "store"


@pytest.fixture
def made(store, tmp_path):
    page, missing = make_site(tmp_path / "site", store)
    return page.parent, missing


def test_cells_become_a_page(made):
    html = (made[0] / f"{NAME}.html").read_text()
    assert '<h2 id="A-heading,-x-2">' in html and "<math" in html
    assert '<span id="eq-1"></span>' in html and '<a href="eq-1.html">(1)</a>' in html
    assert 'Eq. <a href="eq-1.html">(1)</a>' in html
    assert 'alt="A dot of &quot;one&quot; pixel, &lt;b&gt;black&lt;/b&gt;"' in html
    assert 'width="40" height="40"' in html and (made[0] / "figures" / f"{NAME}-1.png").exists()
    assert html.count("Its caption with <math") == 1 and "<figcaption>Its caption" in html
    assert '<blockquote class="found">' in html and "<style" not in html
    assert "said &lt;b&gt;so&lt;/b&gt;" in html
    assert "<summary>Settings</summary>" in html and "Try <em>this</em>" in html


def test_what_only_runs_in_jupyter_is_replaced_by_a_sentence(made):
    html = (made[0] / f"{NAME}.html").read_text()
    assert "A WIDGET" not in html and "NO ANSWER" not in html
    assert "Sliders: open the notebook" in html and "check an answer of yours" in html


def test_a_notebook_that_was_not_executed_is_named_with_its_command(store, tmp_path, capsys):
    write_json(store / "results.json", {"profile": "smoke"})
    assert main(["site", str(tmp_path / "site"), "--out", str(store)]) == 0
    said = capsys.readouterr().out
    command = f"python reproduce.py --only 04 --profile smoke --out {store}"
    assert f"shown without results: 04_two_stage_distillation ({command})" in said
    assert said.count("not executed") == len(NOTEBOOKS) - 1
    for file in ("04_two_stage_distillation.html", "index.html"):
        text = (tmp_path / "site" / file).read_text()
        assert "Not executed yet" in text and command in text
    assert "Not executed yet" not in (tmp_path / "site" / f"{NAME}.html").read_text()
    assert "--only 09" in (tmp_path / "site" / "index.html").read_text()  # makes the verdict


def test_bad_folders_are_refused_in_a_sentence(store, tmp_path, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    command = ["site", str(out), "--out", str(store)]
    assert main(command) == 2
    assert "is not empty. Give another, or --force" in capsys.readouterr().err
    assert len(list(out.iterdir())) == 1
    assert main([*command, "--force"]) == 0
    assert (out / "mine.txt").read_text() == "keep" and (out / "index.html").exists()
    assert main(["site", str(out / "mine.txt"), "--out", str(store)]) == 2
    assert "Cannot write into" in capsys.readouterr().err
    assert main(["site", str(tmp_path / "new"), "--out", str(tmp_path / "nothing")]) == 2
    assert "`python reproduce.py` makes them" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    (store / "notebooks" / f"{NAME}.ipynb").write_text("{")
    with pytest.raises(InputError, match="Cannot read the notebook"):
        make_site(tmp_path / "new", store)


def test_names_of_equations_and_functions_lead_to_their_pages():
    html = to_html("Eqs. (4)-(6) and Eq. (1), [Eq. (2)](x.ipynb#a), `cos_nce`, `lrc_lib.x`")
    assert re.findall(r'href="([^"]*)"', html) == [
        "eq-4.html", "eq-6.html", "eq-1.html", "x.html#a", "eq-1.html#cos_nce",
    ]  # fmt: skip
    assert numbers_named("Eqs. (4)-(6), then Eq. (1)") == {1, 4, 5, 6}
    assert numbers_named("Eqs. (1), (2) and (7) to (8)") == {1, 2, 7, 8}
    assert {n for f in functions() for n in f.numbers} == set(EQUATIONS)


def test_tables_of_markdown_have_row_and_column_headers():
    html = to_html("| | |\n|---|---|\n| Time | short |")
    assert "<thead" not in html and '<th scope="row">Time</th>' in html
    html = to_html("| a | b |\n|---|---|\n| x | y |")
    assert html.count('<th scope="col">') == 2 and '<th scope="row">x</th>' in html


@pytest.mark.parametrize(
    "tex, expected",
    [
        (r"\mathcal L_C", "ℒ"),
        (r"\Bigl\langle a\Bigr\rangle", "⟨"),
        (r"\mathrm{softmax}(y)", "<mi>softmax</mi>"),
        (r"\overline{u}", '<mrow class="over">'),
        (r"\underbrace{u}_{\text{pull}}", '<mrow class="under">'),
        (r"\sum_{i=1}^{K} i", "munderover"),
    ],
)
def test_formulas_are_written_as_browsers_set_them_well(tex, expected):
    made = mathml(tex, block=True)
    assert expected in made and "\\" not in made and "―" not in made and "⏟" not in made


def test_formulas_in_outputs_become_mathml_and_money_stays():
    assert "<math" in rich_html("<td>$a &lt; b$</td>")
    assert rich_html("<td>$5 and $6</td>") == "<td>$5 and $6</td>"


@pytest.fixture(scope="module")
def site(smoke, tmp_path_factory):
    """The site of the whole smoke run."""
    out = tmp_path_factory.mktemp("site")
    page, missing = make_site(out, smoke[0])
    assert not missing
    return page.parent


def test_the_same_input_gives_the_same_bytes(site, smoke, tmp_path):
    make_site(tmp_path / "again", smoke[0])
    files = sorted(path.relative_to(site) for path in site.rglob("*") if path.is_file())
    assert len(files) > 20 + len(NOTEBOOKS)
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (site / file).read_bytes(), file


def test_every_link_leads_somewhere_and_nothing_is_fetched(site):
    pages = {path.name: Page(path.read_text()) for path in site.glob("*.html")}
    for name, page in pages.items():
        for tag, attrs in page.tags:
            if tag in ("script", "img", "link", "iframe"):
                address = attrs.get("src") or attrs.get("href") or ""
                assert address.startswith("data:") or not urlsplit(address).scheme, (name, address)
        for address in page.addresses():
            parts = urlsplit(address)
            if parts.scheme:
                continue
            target = unquote(parts.path) or name
            assert (site / target).is_file(), (name, address)
            if parts.fragment:
                assert unquote(parts.fragment) in pages[target].ids(), (name, address)
    assert "url(" not in (site / "style.css").read_text().replace("url(math.ttf)", "")


@pytest.mark.parametrize("number", EQUATIONS)
def test_an_equation_links_function_notebook_and_paper_both_ways(site, number):
    page = Page((site / f"eq-{number}.html").read_text())
    calls = [f for f in functions() if number in f.numbers]
    assert {f.name for f in calls} <= page.ids()
    assert all(f.dotted in page.text for f in calls)
    assert "Raises" in page.text and f"Equation ({number}), section" in page.text
    links = [link for link in page.addresses() if re.match(r"\d\d_\w+\.html#", link)]
    assert links
    back = [Page((site / link.split("#")[0]).read_text()).addresses() for link in links]
    assert any(f"eq-{number}.html" in addresses for addresses in back)
    assert "<math" in (site / f"eq-{number}.html").read_text().split("In the paper")[0]


def test_the_landing_page_gives_the_verdicts_and_findings_of_the_run(site, smoke):
    text = Page((site / "index.html").read_text()).text
    records = {n["name"]: n["result"] for n in smoke[1]["notebooks"]}
    for row in records["09_glue_results"]["numbers"]["verdict"]:
        assert row["claim"] in text and row["verdict"] in text
    for record in records.values():
        for finding in record["findings"]:
            if "$" not in finding:
                assert finding in text


def test_every_page_is_sound_in_a_browser_without_a_network(site):
    with browser_page() as page:
        found = {p.name: faults_of(page, p.as_uri()) for p in sorted(site.glob("*.html"))}
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_the_search_finds_sections_and_shows_text_as_text(site):
    with browser_page() as page:
        page.goto((site / "index.html").as_uri())
        page.fill("header input", "optimum teacher")
        page.press("header input", "Enter")
        page.wait_for_url("**/search.html?q=optimum+teacher")
        first = page.locator("#found li a").first
        assert "optimum is not the teacher" in first.inner_text()
        assert page.locator("#found mark").first.inner_text().lower() in ("optimum", "teacher")
        first.click()
        page.wait_for_url("**/01_cos_nce_geometry.html#*")
        heading = page.locator("h2", has_text="The optimum is not the teacher")
        assert 0 <= heading.bounding_box()["y"] < 400
        page.goto((site / "search.html").as_uri())
        page.fill("#words", "perturb_embeddings")
        assert page.locator('#found a[href="eq-7.html"]').count() == 1
        page.fill("#words", "<img src=x onerror=alert(1)> zzz")
        assert page.inner_text("#count") == "0 sections"
        assert not page.problems


def test_folds_and_the_menu_work_on_a_phone_without_scripts(site):
    with browser_page(viewport={"width": 375, "height": 800}, java_script_enabled=False) as page:
        page.goto((site / f"{NAME}.html").as_uri())
        solution = page.locator("details", has_text="Solution").last
        assert not solution.locator("pre").is_visible()
        solution.locator("summary").click()
        assert solution.locator("pre").is_visible()
        assert not page.locator("#menu").is_visible()
        page.click("button.menu")
        page.click("#menu >> text=The equations")
        page.wait_for_url("**/equations.html")
        assert not page.problems


def test_figures_lie_on_white_in_the_dark(site):
    with browser_page(color_scheme="dark") as page:
        page.goto((site / f"{NAME}.html").as_uri())
        for what in ("figure", "figure img"):
            style = f"getComputedStyle(document.querySelector({what!r})).backgroundColor"
            assert page.evaluate(style) == "rgb(255, 255, 255)"


def test_nothing_of_the_site_is_missing_from_the_package():
    import tomllib

    from lrc_lib.course.notebook import ROOT

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = project["package-data"]["lrc_lib.cli.site"]
    data = [p for p in (ROOT / "lrc_lib" / "cli" / "site").iterdir() if p.suffix not in (".py", "")]
    assert data and all(any(path.match(pattern) for pattern in patterns) for path in data)
