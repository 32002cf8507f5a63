import re
from pathlib import Path

import pytest

from lrc_lib.cli.readme import BLOCKS, PAGES, refreshed
from lrc_lib.schedule import RECIPES

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_measured_tables_are_those_of_the_committed_results(page):
    text = page.read_text(encoding="utf-8")
    assert refreshed(text) == text, "run python -m lrc_lib.cli.readme"


def test_every_measured_table_is_shown_and_none_is_unknown():
    whole = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"<!-- measured: (\w+) -->", whole)) == set(BLOCKS)


def test_every_file_that_is_named_exists():
    root = Path(__file__).resolve().parents[1]
    for name in re.findall(r"(?:lrc_lib|results|notebooks)/[\w/.-]+", README):
        assert (root / name.rstrip("./")).exists(), name


def test_recipes_named_are_the_recipes_there_are():
    named = set(re.findall(r"`((?:lrc|bert_m|finetune)[\w]*)`", README)) - {"lrc_lib"}
    assert named == set(RECIPES) - {"lrc_c_last20"}
