"""Notebook 08: its answer, for every combination of verdicts."""

import itertools
import json

from lrc_lib.course.notebook import notebook_path
from lrc_lib.results.claims import VERDICTS


def test_the_answer_is_one_sentence_for_all_verdicts():
    cells = json.loads(notebook_path("08_is_it_contrastive").read_text(encoding="utf-8"))["cells"]
    (source,) = ("".join(c["source"]) for c in cells if "def answer" in "".join(c["source"]))
    exec(source, space := {"margin": 1})
    assert sorted(space["ORDER"]) == sorted(VERDICTS)
    said = {}
    for words in itertools.product(VERDICTS, repeat=4):
        for ahead in (True, False):
            said[*words, ahead] = sentence = space["answer"](*words, ahead=ahead)
            assert sentence.endswith(").") and sentence.count(".") == 1
            yes = words[2] == "opposite" and ahead
            no = words[2] == "equivalent" or words[2] == "opposite" and not ahead
            assert (sentence[:4] == "Yes,", sentence[:3] == "No,") == (yes, no)
    assert len({*said.values()}) == 6**3 * 7  # only an opposite P3 asks who is ahead
