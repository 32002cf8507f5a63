"""GLUE files as people have them, one small task each."""

from lrc_lib.data.rows import Row
from lrc_lib.data.tasks import TASKS

PAIR_HEADER = "index\tsentence1\tsentence2\tlabel"
STS_HEADER = (
    "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
)
MNLI_HEADER = "index\tsentence1\tsentence2\tlabel1\tgold_label"
FILES = {
    "cola": ("CoLA", "", 'gj04\t0\t*\tHe said "no.', Row('He said "no.', None, 0)),
    "sst-2": ("sst2", "sentence\tlabel", "a 'fun ride \t1", Row("a 'fun ride ", None, 1)),
    "mrpc": (
        "mrpc",
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        '1\t7\t8\t"A b\tC\u2028 d',
        Row('"A b', "C\u2028 d", 1),
    ),
    "sts-b": ("STS-B", STS_HEADER, "0\tg\tf\ty\to\ts\ts\tA.\tB.\t3.75", Row("A.", "B.", 3.75)),
    "qqp": (
        "QQP",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "1\t2\t3\tWhy?\tHow?\t0",
        Row("Why?", "How?", 0),
    ),
    "mnli": ("MNLI", MNLI_HEADER, "0\tP\tH\tneutral\tcontradiction", Row("P", "H", 2)),
    "qnli": ("Q-NLI", "index\tquestion\tsentence\tlabel", "0\tQ\tS\tentailment", Row("Q", "S", 0)),
    "rte": ("rte", PAIR_HEADER, "0\tA\tB\tnot_entailment", Row("A", "B", 1)),
}


def write_glue(root, name, header=None, body=None, end="\r\n"):
    folder, usual, row, _ = FILES[name]
    (root / folder).mkdir(exist_ok=True)
    lines = [usual if header is None else header] + (body or [row] * 3)
    content = end.join(line for line in lines if line) + end
    for split in ("train", *TASKS[name].dev_splits):
        file = split if split in ("train", "dev") else f"dev_{split}"
        (root / folder / f"{file}.tsv").write_text(content, encoding="utf-8", newline="")
    return root / folder
