"""The explorers in a real JupyterLab in headless Chromium: the notebooks' own interactive cells.

Data that a notebook would read from a run is tiny here; no run is trained.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time

import nbformat
import pytest
from browser import browser_page

from lrc_lib.course.notebook import ROOT

TOKEN = "lrc"
LOW = 560  # pixels that JupyterLab leaves a notebook on a screen of 768
SETUP = """
from types import SimpleNamespace
from lrc_lib.course import explorers
from lrc_lib.course.explorers import explore_cases, explore_cos_nce, explore_negatives
from test_explorers import dev_rows, tiny_walks
measured, (everything, wrong) = tiny_walks(), dev_rows()
mistakes = wrong
steps, spec = 345, SimpleNamespace(stage_boundary=0.8, warmup=0.1)
"""
EXPLORERS = {"cos_nce", "negatives", "stages", "perturbation", "cases"}


def interactive_cells():
    """{explorer: source} of the cells tagged `interactive` in all notebooks."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if "interactive" in cell.metadata.get("tags", []):
                found[re.search(r"explore_(\w+)\(", cell.source)[1]] = cell.source
    return found


def settings(folder, extension, plugin, **values):
    path = folder / "settings" / "@jupyterlab" / extension / f"{plugin}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a notebook in a server of its own, with a kernel of this interpreter."""
    folder = tmp_path_factory.mktemp("lab")
    here = os.path.dirname(__file__)
    tests = os.path.dirname(here)
    search = os.pathsep.join([str(ROOT), here, tests, os.environ.get("PYTHONPATH", "")])
    kernel = folder / "data" / "kernels" / "this-python"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "This Python", "language": "python"})
    )
    sources = [SETUP.strip(), *interactive_cells().values()]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources],
        metadata={"kernelspec": {"name": "this-python", "display_name": "This Python"}},
    )
    (folder / "work").mkdir()
    nbformat.write(notebook, folder / "work" / "explorers.ipynb")
    settings(folder, "apputils-extension", "notification", fetchNews="false", checkForUpdates=False)
    settings(folder, "notebook-extension", "tracker", windowingMode="none")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    dropped = {"LRC_HEADLESS", "JUPYTER_PATH", "MPLBACKEND"}
    environment = {k: v for k, v in os.environ.items() if k not in dropped}
    environment |= {name: str(folder / place) for name, place in places.items()}
    environment |= {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    options += [f"--ServerApp.root_dir={folder / 'work'}", f"--IdentityProvider.token={TOKEN}"]
    options += ["--LabApp.news_url=None", "--ServerApp.port_retries=0"]
    with open(folder / "log.txt", "w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for(server, port, folder / "log.txt")
            yield f"http://127.0.0.1:{port}/lab/tree/explorers.ipynb?token={TOKEN}"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for(server, port, log, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def page(lab):
    """The notebook in a browser, all cells run from the menu."""
    with browser_page(viewport={"width": 1300, "height": 768}) as page:
        page.goto(lab)
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
        page.get_by_text("| Idle").wait_for(timeout=60_000)  # the kernel is there
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.locator('li[data-command="runmenu:run-all"]').click()
        count = f"document.querySelectorAll('.lrc-explorer').length == {len(EXPLORERS)}"
        page.wait_for_function(count, timeout=90_000)
        yield page


def explorer(page, name):
    """An explorer's box, in view, and its picture."""
    box = page.locator(".lrc-explorer").nth(list(interactive_cells()).index(name))
    box.scroll_into_view_if_needed()
    return box, box.locator(".widget-html-content").first


def press(page, box, control, key, expected=None):
    """Presses a key and waits until what the box shows is `expected`, or another than before."""
    shown = "box => [...box.querySelectorAll('.widget-html-content')].map(x => x.innerHTML).join()"
    before = box.evaluate(shown)
    control.focus()
    control.press(key)
    there = f"([box, old, wanted]) => wanted ? ({shown})(box) == wanted : ({shown})(box) != old"
    page.wait_for_function(there, arg=[box.element_handle(), before, expected], timeout=20_000)
    return before


def test_the_notebooks_have_a_cell_for_every_explorer():
    assert set(interactive_cells()) == EXPLORERS


def test_all_cells_run_without_an_error_or_a_warning(page):
    outputs = page.locator(".jp-OutputArea-output")
    assert outputs.count() == len(EXPLORERS)
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    assert page.problems == []


@pytest.mark.parametrize("name", sorted(EXPLORERS))
def test_arrow_keys_move_every_slider_and_the_picture_follows(page, name):
    box, picture = explorer(page, name)
    drawn, sliders = picture.locator("img"), box.locator(".widget-vbox")
    assert len(drawn.get_attribute("alt")) > 60
    size, beside = drawn.bounding_box(), sliders.bounding_box()
    assert size["width"] > 400 and size["height"] > 150
    assert beside["x"] + beside["width"] <= size["x"], "sliders and picture side by side"
    assert max(x["y"] + x["height"] for x in (size, beside)) - size["y"] < LOW, "on one screen"
    for handle in box.locator("[role=slider]:visible").all():
        at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
        there, back = ("ArrowLeft", "ArrowRight") if at_end else ("ArrowRight", "ArrowLeft")
        before = press(page, box, handle, there)
        press(page, box, handle, back, before)  # back at the same place: the same picture
    assert page.problems == []


def test_a_key_turns_the_circle_into_a_sphere(page):
    box, picture = explorer(page, "cos_nce")
    sliders = box.locator("[role=slider]:visible").count()
    press(page, box, box.get_by_role("button", name="sphere", exact=True), "Space")
    assert "On the sphere" in picture.inner_text()
    assert box.locator("[role=slider]:visible").count() == sliders + 2
    press(page, box, box.get_by_role("button", name="roll downhill"), "Space")

    def wait_for(words):
        there = f"box => /{words}/.test(box.innerText)"
        page.wait_for_function(there, arg=box.element_handle(), timeout=90_000)

    wait_for("[0-3]° from u")
    box.get_by_role("button", name="reset").press("Space")
    wait_for("On the circle")
    assert page.problems == []


def test_texts_of_data_are_not_run(page):
    box, picture = explorer(page, "perturbation")
    assert "<script>" in picture.inner_text() and picture.locator("script").count() == 0
