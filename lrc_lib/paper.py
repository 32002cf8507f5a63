"""The paper's own numbers: tables, figures, hyper-parameters, claims and errata.

`paper.toml` holds the data, and everything in it is the paper's, never ours. Systems carry the
paper's names, which are also the titles in `lrc_lib.schedule.RECIPES`; columns carry the names in
`lrc_lib.data.tasks`. Scores are on the paper's scale, 0-100. Table 1 is the GLUE test server,
Tables 3 to 5 are development sets; each cell is one number, and the paper gives no seeds and no
intervals. Compared with ours in notebooks 02, 05, 07 and 09.
"""

import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

_PAPER = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


class Case(NamedTuple):
    """One row of Table 5, without its texts: MSE and angle of the layers, gold, BERT_M's answer."""

    mse: float
    angle: float
    label: str
    bert_m: str


class Claim(NamedTuple):
    """A number in the paper's text and how it follows from the tables."""

    says: str
    printed: float
    compute: Callable[[], float]


class Erratum(NamedTuple):
    """Something in the paper that is wrong, contradictory, or says more than was shown."""

    where: str
    says: str
    known: str
    source: str


def average(row: dict[str, float]) -> float:
    """The paper's "Avg": the plain mean of the nine columns (MNLI counts twice), 0-100."""
    return sum(row[column] for column in COLUMNS) / len(COLUMNS)


def value(table: int, system: str, column: str) -> float | None:
    """The paper's number for a system and column of Table 1 to 4; None where it prints none."""
    return TABLES[table].get(system, {}).get(column)


def gain(table: int, system: str, over: str, column: str) -> float:
    """How many points `system` lies above `over` in one column."""
    return TABLES[table][system][column] - TABLES[table][over][column]


def effect(by: str, of: list) -> float:
    """A number that follows from the tables, as the entries `by` and `of` in paper.toml say."""
    return _COMPUTED[by](*of)


def _mean_gain(table: int, system: str, over: str, *columns: str) -> float:
    """The mean of `gain` over the columns; over all of the table if none is named."""
    columns = columns or tuple(TABLES[table][system])
    return sum(gain(table, system, over, column) for column in columns) / len(columns)


def _over_bert_m(system: str) -> float:
    return TABLE_1_AVERAGE[system] - BERT_M_AVERAGE


def _percent(system: str, of: str) -> float:
    return 100 * average(TABLE_1[system]) / average(TABLE_1[of])


def _ratio(column: str) -> float:
    return TABLE_2["BERT-base (teacher)"][column] / TABLE_2["LRC-BERT"][column]


def _rows(table: dict, key: str = "rows") -> dict[str, dict[str, float]]:
    return {
        system: dict(zip(table["columns"], values, strict=True))
        for system, values in table[key].items()
    }


CITATION, DOI, ARXIV = _PAPER["citation"], _PAPER["doi"], _PAPER["arxiv"]
_FIRST = _PAPER["table_1"]
COLUMNS = tuple(_FIRST["columns"])
METRICS = dict(zip(COLUMNS, _FIRST["metrics"], strict=True))
TABLES = {number: _rows(_PAPER[f"table_{number}"]) for number in (1, 2, 3, 4)}
TABLE_1, TABLE_2, TABLE_3, TABLE_4 = TABLES.values()
TABLE_1_AVERAGE, TABLE_1_MILLIONS = _FIRST["average"], _FIRST["parameters_millions"]
TINYBERT_FINDINGS = _rows(_FIRST, "later")["TinyBERT"]
TABLE_5 = tuple(Case(*row) for row in _PAPER["table_5"]["rows"])
BERT_M_AVERAGE = _PAPER["text"]["bert_m_average"]
HYPERPARAMETERS = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in _PAPER["hyperparameters"].items()
}
_COMPUTED = {"percent": _percent, "ratio": _ratio, "gain": gain, "mean_gain": _mean_gain}
_COMPUTED["over_bert_m"] = _over_bert_m
CLAIMS = tuple(
    Claim(claim["says"], claim["printed"], partial(effect, claim["by"], claim["of"]))
    for claim in _PAPER["text"]["claims"]
)
ERRATA = tuple(Erratum(**erratum) for erratum in _PAPER["errata"])
