"""The paper's own numbers: tables, figures, hyper-parameters, claims and errata, as data.

Everything here is the paper's, never ours. Systems carry the paper's names, which are also the
titles in `lrc_lib.schedule.RECIPES`; columns carry the names in `lrc_lib.data.tasks`. Scores are on the
paper's scale, 0-100. Table 1 is the GLUE test server, Tables 3 to 5 are development sets; the paper
gives one number a cell, with no seeds and no interval. Compared with ours in notebooks 02, 05, 07
and 09.
"""

from collections.abc import Callable
from typing import NamedTuple

CITATION = (
    "Hao Fu, Shaojun Zhou, Qihong Yang, Junjie Tang, Guiquan Liu, Kaikui Liu, Xiaolong Li. "
    "LRC-BERT: Latent-representation Contrastive Knowledge Distillation for Natural Language "
    "Understanding. AAAI 2021, pages 12830-12838."
)
DOI = "10.1609/aaai.v35i14.17518"
ARXIV = "2012.07335"

COLUMNS = ("MNLI-m", "MNLI-mm", "QQP", "SST-2", "QNLI", "MRPC", "RTE", "CoLA", "STS-B")

# What each column of Table 1 measures; STS-B and CoLA corrected, see the first erratum.
METRICS = dict.fromkeys(COLUMNS, "accuracy") | {
    "QQP": "f1",
    "MRPC": "f1",
    "CoLA": "matthews",
    "STS-B": "pearson/spearman",
}

# Training rows in thousands, printed under the column heads of Table 1.
TRAIN_THOUSANDS = dict(zip(COLUMNS, (393, 393, 364, 67, 105, 3.7, 2.5, 8.5, 5.7), strict=True))


def _rows(columns, **systems) -> dict[str, dict[str, float]]:
    names = {"BERT_base": "BERT-base (teacher)", "BERT_PKD": "BERT-PKD"}
    names |= {"LRC": "LRC-BERT", "LRC_1": "LRC-BERT₁", "LRC_2": "LRC-BERT₂"}
    names |= {f"LRC_{letter}": f"LRC-BERT_{letter}" for letter in "CSH"}
    return {
        names.get(key, key): dict(zip(columns, values, strict=True))
        for key, values in systems.items()
    }


# Table 1: GLUE test server.
TABLE_1 = _rows(
    COLUMNS,
    BERT_base=(84.3, 83.8, 71.4, 93.6, 90.9, 88.0, 66.4, 53.0, 84.8),
    DistilBERT=(78.9, 78.0, 68.5, 91.4, 85.2, 82.4, 54.1, 32.8, 76.1),
    BERT_PKD=(79.9, 79.3, 70.2, 89.4, 85.1, 82.6, 62.3, 24.8, 79.8),
    TinyBERT=(82.5, 81.8, 71.3, 92.6, 87.7, 86.4, 62.9, 43.3, 79.9),
    LRC_1=(82.8, 82.6, 71.9, 90.7, 88.3, 83.0, 51.0, 31.6, 79.8),
    LRC=(83.1, 82.7, 72.2, 92.9, 88.7, 87.0, 63.1, 46.5, 81.2),
)
TABLE_1_AVERAGE = dict(zip(TABLE_1, (79.6, 71.9, 72.6, 76.5, 73.5, 77.5), strict=True))
TABLE_1_MILLIONS = dict(zip(TABLE_1, (109, 52.2, 52.2, 14.5, 14.5, 14.5), strict=True))

# Table 2: size and inference time. The paper names neither data, batch nor length.
TABLE_2 = _rows(
    ("layers", "hidden", "parameters_millions", "seconds"),
    BERT_base=(12, 768, 109, 121.4),
    LRC=(4, 312, 14.5, 12.7),
)

# Table 3: ablation of the losses, dev. "removed" is what the letter means.
TABLE_3 = _rows(
    ("MNLI-m", "MNLI-mm", "MRPC", "CoLA"),
    LRC=(83.4, 83.5, 89.0, 50.0),
    LRC_C=(78.0, 78.2, 81.5, 37.0),
    LRC_S=(82.7, 83.0, 89.4, 48.8),
    LRC_H=(83.0, 83.5, 88.7, 48.6),
)

# Table 4: one stage against two, dev.
TABLE_4 = _rows(("MNLI-m",), LRC=(83.4,), LRC_2=(79.4,))


class Case(NamedTuple):
    """One row of Table 5, without its texts: MSE and angle of the layers, gold, BERT_M's answer."""

    mse: float
    angle: float
    label: str
    bert_m: str


# Table 5: four cases from MNLI-m dev that LRC-BERT gets right.
TABLE_5 = (
    Case(1.532, 0.505, "entailment", "entailment"),
    Case(1.557, 0.525, "contradiction", "contradiction"),
    Case(1.730, 0.496, "neutral", "contradiction"),
    Case(2.108, 0.484, "entailment", "neutral"),
)

TABLES = {1: TABLE_1, 2: TABLE_2, 3: TABLE_3, 4: TABLE_4}
SPLITS = {1: "test", 3: "dev", 4: "dev", 5: "dev"}
BERT_M_AVERAGE = 77.0  # section "Analysis of angle-based distribution features"; no table

# TinyBERT's row as its authors published it later (Findings of EMNLP 2020): see the errata.
TINYBERT_FINDINGS = dict(
    zip(COLUMNS, (82.5, 81.8, 71.3, 92.6, 87.7, 86.4, 66.6, 44.1, 80.4), strict=True)
)

FIGURES = {
    1: "Overview: each student layer is compared with its teacher layer and with the teacher's "
    "outputs for negative samples; logits with the teacher's logits and the labels.",
    2: "Student and teacher outputs as points: the student that is nearer by Euclidean distance "
    "is the worse one by angle.",
    3: "The difference g(n, zS) - g(zT, zS) on the range of g, as the distance from a negative.",
    4: "The two passes of a training step with gradient perturbation.",
    5: "Training loss on MNLI-m with and without perturbation, over both stages.",
}

HYPERPARAMETERS = {  # all from the section "Distillation Setup"
    "teacher": "BERT-base, fine-tuned per task: 12 layers, width 768, FFN 3072, 12 heads",
    "student_layers": 4,
    "student_hidden": 312,
    "student_intermediate": 1200,
    "student_heads": 12,
    "batch_size": 16,
    "negatives": 15,
    "learning_rates": (5e-5, 1e-4, 3e-4),
    "epochs_small": 90,
    "small_tasks": ("MRPC", "RTE", "CoLA"),
    "epochs": 18,
    "stage_boundary": 0.8,
    "stage1_weights": (1, 0, 0),
    "stage2_weights": (1, 1, 3),
    "temperature": 1.1,
    "augmented_tasks": ("RTE", "CoLA"),
    "augmentation_factor": 20,
    "augmentation_epochs": 20,
    "general_corpus": "Wikipedia",
    "general_epochs": 1,
}


def average(row: dict[str, float]) -> float:
    """The paper's "Avg": the plain mean of the nine columns (MNLI counts twice), 0-100."""
    return sum(row[column] for column in COLUMNS) / len(COLUMNS)


def value(table: int, system: str, column: str) -> float | None:
    """The paper's number for a system and column of Table 1 to 4; None where it prints none."""
    return TABLES[table].get(system, {}).get(column)


def gain(table: int, system: str, over: str, column: str) -> float:
    """How many points `system` lies above `over` in one column."""
    return TABLES[table][system][column] - TABLES[table][over][column]


class Claim(NamedTuple):
    """A number in the paper's text and how it follows from the tables."""

    says: str
    printed: float
    compute: Callable[[], float]


def _ratio(key: str) -> float:
    return TABLE_2["BERT-base (teacher)"][key] / TABLE_2["LRC-BERT"][key]


def _gains(system: str, over: str, printed: dict[str, float]) -> tuple[Claim, ...]:
    return tuple(
        Claim(f"{system} over {over} on {c}", p, lambda c=c: gain(1, system, over, c))
        for c, p in printed.items()
    )


CLAIMS = (
    Claim(
        "LRC-BERT's average in % of the teacher's",
        97.4,
        lambda: 100 * average(TABLE_1["LRC-BERT"]) / average(TABLE_1["BERT-base (teacher)"]),
    ),
    Claim("times faster than the teacher", 9.6, lambda: _ratio("seconds")),
    Claim("times smaller than the teacher", 7.5, lambda: _ratio("parameters_millions")),
    Claim(
        "points lost on MNLI-m without two stages",
        4.0,
        lambda: gain(4, "LRC-BERT", "LRC-BERT₂", "MNLI-m"),
    ),
    *_gains("LRC-BERT₁", "TinyBERT", {"MNLI-m": 0.3, "MNLI-mm": 0.8, "QQP": 0.6, "QNLI": 0.6}),
    *_gains("LRC-BERT", "LRC-BERT₁", {"MRPC": 4.0, "RTE": 12.1, "CoLA": 14.9}),
)


class Erratum(NamedTuple):
    """Something in the paper that is wrong, contradictory, or says more than was shown."""

    where: str
    says: str
    known: str
    source: str


ERRATA = (
    Erratum(
        "Datasets",
        "STS-B is scored by Matthews correlation, the other tasks not named by accuracy.",
        "STS-B is scored by Pearson and Spearman correlation; CoLA is the one with Matthews.",
        "GLUE (Wang et al., ICLR 2019); TinyBERT's evaluation code",
    ),
    Erratum(
        "Datasets",
        "Eight classification tasks.",
        "STS-B is a regression, and Table 1 has nine columns because MNLI counts twice.",
        "Table 1",
    ),
    Erratum(
        "Eq. (3) and Ablation Studies",
        "Negatives come from the i-th teacher layer; the total loss is formula (1).",
        "The layer is the phi(i)-th; the total loss is Eq. (6).",
        "Eqs. (3) and (6)",
    ),
    Erratum(
        "Ablation Studies and Table 3",
        "The soft loss matters more on MRPC and CoLA, the hard loss on MNLI; all three help.",
        "In Table 3 the model without the soft loss is the better one on MRPC and CoLA and the "
        "worse one on MNLI: the reverse. MRPC even gains when the soft loss goes.",
        "Table 3",
    ),
    Erratum(
        "Table 1",
        "LRC-BERT is better than TinyBERT on every task.",
        "The TinyBERT row is that of an early preprint. Its published row is higher on RTE, CoLA "
        "and STS-B; on RTE it is above LRC-BERT. Its authors call that task unstable.",
        "TinyBERT, Findings of EMNLP 2020; huawei-noah/Pretrained-Language-Model issue 95",
    ),
    Erratum(
        "Analysis of angle-based distribution features",
        "COS-NCE is what makes LRC-BERT better.",
        "The same model with MSE (BERT_M) already averages 77.0, above the TinyBERT row quoted; "
        "what COS-NCE itself adds is half a point, in one run.",
        "Table 1 and text",
    ),
    Erratum(
        "Effect of gradient perturbation and Fig. 5",
        "Perturbation increases the robustness.",
        "Shown is only a smoother training loss: no score without it and no test of robustness. "
        "Whether both curves are the clean loss is not said.",
        "Fig. 5 and text",
    ),
    Erratum(
        "Abstract and Introduction",
        "Angular distance is not considered by existing distillation methods.",
        "DistilBERT's cosine loss, which the introduction itself lists, is one; and the mean "
        "squared error of unit vectors is twice the angular distance.",
        "Introduction; shown in notebook 01",
    ),
    Erratum(
        "Main Results",
        "Pre-training and augmentation bring 4.0 points on MRPC and 12.1 on RTE.",
        "Only RTE and CoLA were augmented, not MRPC; and LRC-BERT₁'s 51.0 on RTE is about chance "
        "for two balanced classes, so the gain is counted from chance.",
        "Distillation Setup; Table 1",
    ),
    Erratum(
        "Main Results",
        "LRC-BERT₁ beats TinyBERT on tasks with more than 100K rows, by percentages.",
        "They are points; on SST-2 (67K rows, left out) it loses.",
        "Table 1",
    ),
    Erratum(
        "Tables 1, 3, 4 and 5",
        "Numbers are set side by side.",
        "Table 1 is the test server, the others are dev. Stage boundary and loss weights were "
        "searched on MNLI. There are no seeds and no intervals.",
        "Table captions; Distillation Setup",
    ),
    Erratum(
        "Table 2",
        "9.6 times faster, 7.5 times smaller, 14.5M parameters.",
        "No data, batch or length is given for the times. 14.5M counts the training-only "
        "projection W; the deployed student is smaller.",
        "Counted by `lrc_lib.models.build_student` in notebook 02",
    ),
    Erratum(
        "Table 1",
        "DistilBERT and BERT-PKD with four layers.",
        "These rows are TinyBERT's own retrainings, not the original releases.",
        "TinyBERT, section 4.3",
    ),
    Erratum(
        "Table 5",
        "Distilling angles works better than distilling Euclidean distances.",
        "Four cases chosen because LRC-BERT is right in all of them cannot show it.",
        "Notebook 07 asks the whole dev set",
    ),
    Erratum(
        "Section COS-based NCE loss",
        "COS-NCE transfers the structure among different samples.",
        "Its contrastive part is an inner product with the mean negative; over a batch it is "
        "the product of two mean directions. No pairwise relation enters.",
        "Shown in notebook 01",
    ),
)
