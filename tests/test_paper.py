"""The paper's tables agree with the paper's own arithmetic and with our parameter counts."""

import pytest
import torch

from lrc_lib import paper
from lrc_lib.models import Projection, build_student, count_parameters
from lrc_lib.schedule import RECIPES


@pytest.mark.parametrize("system", paper.TABLE_1)
def test_averages_of_table_1_are_the_printed_ones(system):
    assert round(paper.average(paper.TABLE_1[system]), 1) == paper.TABLE_1_AVERAGE[system]


@pytest.mark.parametrize("claim", paper.CLAIMS, ids=lambda claim: claim.says)
def test_every_number_in_the_text_follows_from_the_tables(claim):
    assert round(claim.compute(), 1) == claim.printed


def test_the_later_tinybert_row_narrows_the_gap_and_turns_rte():
    ours, later = paper.TABLE_1["LRC-BERT"], paper.TINYBERT_FINDINGS
    assert round(paper.average(later), 1) == 77.0
    behind = [c for c in paper.COLUMNS if ours[c] < later[c]]
    assert behind == ["RTE"]
    quoted = paper.TABLE_1["TinyBERT"]
    assert [c for c in paper.COLUMNS if quoted[c] != later[c]] == ["RTE", "CoLA", "STS-B"]
    assert all(ours[c] > quoted[c] for c in paper.COLUMNS)


def test_what_the_errata_say_about_the_tables():
    without_soft, without_hard = paper.TABLE_3["LRC-BERT_S"], paper.TABLE_3["LRC-BERT_H"]
    for column in ("MRPC", "CoLA"):
        assert without_soft[column] > without_hard[column]
    for column in ("MNLI-m", "MNLI-mm"):
        assert without_soft[column] < without_hard[column]
    assert without_soft["MRPC"] > paper.TABLE_3["LRC-BERT"]["MRPC"]
    assert paper.gain(1, "LRC-BERT₁", "TinyBERT", "SST-2") < 0
    assert paper.BERT_M_AVERAGE > paper.TABLE_1_AVERAGE["TinyBERT"]
    assert paper.TABLE_1_AVERAGE["LRC-BERT"] - paper.BERT_M_AVERAGE == pytest.approx(0.5)
    assert all(all(field.strip() for field in erratum) for erratum in paper.ERRATA)


def test_systems_are_called_as_in_the_recipes():
    titles = {recipe.title for recipe in RECIPES.values()}
    for table in paper.TABLES.values():
        assert set(table) - {"BERT-base (teacher)"} <= titles


def test_a_cell_is_a_number_or_none():
    assert paper.value(3, "LRC-BERT_C", "CoLA") == 37.0
    assert paper.value(3, "LRC-BERT_g", "CoLA") is None
    assert paper.value(4, "LRC-BERT", "CoLA") is None


def test_table_5_holds_two_errors_of_bert_m_and_they_have_the_larger_mse():
    wrong = [case for case in paper.TABLE_5 if case.label != case.bert_m]
    right = [case for case in paper.TABLE_5 if case.label == case.bert_m]
    assert len(wrong) == len(right) == 2
    assert min(c.mse for c in wrong) > max(c.mse for c in right)


def test_parameter_counts_of_the_paper_s_student():
    sizes = {k.removeprefix("student_"): v for k, v in paper.HYPERPARAMETERS.items()
             if k.startswith("student_")}  # fmt: skip
    assert sizes == {"layers": 4, "hidden": 312, "intermediate": 1200, "heads": 12}
    with torch.device("meta"):  # counts, no memory
        student, teacher = build_student(**sizes).bert, build_student(12, 768, 3072, 12).bert
    with_w = count_parameters(student) + count_parameters(Projection(312, 768))
    with_bias = count_parameters(student) + count_parameters(Projection(312, 768, bias=True))
    assert (count_parameters(student), with_w, with_bias) == (14_350_248, 14_589_864, 14_590_632)
    assert count_parameters(teacher) == 109_482_240
    assert round(count_parameters(teacher) / with_w, 1) == 7.5
