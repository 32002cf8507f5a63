"""The page of all error messages, and their style."""

import re
import runpy
from pathlib import Path

from lrc_lib import errors

ROOT = Path(__file__).resolve().parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "errors.py"))


def test_the_page_holds_the_messages_of_the_code():
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == TOOL["page"]()


def test_the_page_s_exit_codes_are_those_of_the_classes():
    classes = {name: code for name, code in TOOL["KINDS"].items() if name != "unknown"}
    assert classes == {name: getattr(errors, name).exit_code for name in classes}
    assert isinstance(errors.unknown("task", "x", ["y"]), errors.InputError)


def test_messages_are_sentences():
    rows = [row for path in (ROOT / "lrc_lib").rglob("*.py") for row in TOOL["messages"](path)]
    assert len(rows) > 150
    for _, message in rows:
        assert re.search(r"""([.…"]|\(…\)\.)$""", message), message  # or a command to copy
        assert "  " not in message and "!" not in message and len(message) < 500, message
