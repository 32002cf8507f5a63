"""Headless Chromium for tests, with no way out to the network; skipped where there is none."""

import contextlib
import os
import shutil

import pytest

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def chromium_path() -> str | None:
    """$LRC_CHROMIUM, else the first Chromium or Chrome on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("LRC_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextlib.contextmanager
def browser_page(**context):
    """A page of a fresh browser; `page.problems` collects console errors and failed requests.

    `context` goes to `browser.new_context`: viewport, color_scheme, ...
    """
    playwright = pytest.importorskip("playwright.sync_api")
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium on the PATH (or $LRC_CHROMIUM)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_context(**context).new_page()
        page.problems = []
        page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("requestfailed", lambda request: page.problems.append(f"failed: {request.url}"))
        try:
            yield page
        finally:
            browser.close()
