"""Premise/hypothesis pairs from a small grammar: the labels follow from rules, nothing is fetched.

The rules are those of sets (dogs are animals; "no", "all", "at least three"; every kind has
members), of opposites (a door is locked or unlocked) and of strict orders (older, younger). Each
hypothesis comes three times, with a premise that entails it, one that leaves it open and one that
contradicts it, so a hypothesis alone says nothing about its label. The dev split is about kinds,
opposites and comparisons that training never names.
"""

import random

from lrc_lib.data.rows import Row
from lrc_lib.data.tasks import TASKS, Task
from lrc_lib.errors import InputError

TRAIN_ROWS, DEV_ROWS = 3000, 600
LABELS = TASKS["nli"].labels
NUMBERS = "two three four five six seven eight nine ten eleven twelve".split()
NAMES = "Anna Ben Clara David Emma Felix Grace Hugo Irene Jack Laura Martin".split()
WHEN = ("", " today", " now", " this morning", " at noon")

# The group, its kinds with members of each for training and for dev, what may be said of it.
GROUPS = {
    "animals": (
        {
            "dogs": ("poodles", "beagles", "terriers", "spaniels"),
            "birds": ("sparrows", "eagles", "owls", "parrots"),
            "insects": ("bees", "beetles", "moths", "wasps"),
        },
        {"reptiles": ("lizards", "crocodiles", "snakes", "turtles")},
        ("hungry", "wet", "in the garden", "near the river", "in the photo", "behind the barn"),
    ),
    "people": (
        {
            "musicians": ("pianists", "violinists", "drummers", "guitarists"),
            "athletes": ("swimmers", "boxers", "sprinters", "gymnasts"),
        },
        {"doctors": ("surgeons", "dentists", "cardiologists", "pediatricians")},
        ("tired", "late", "on the stage", "in the hall", "at the station", "near the window"),
    ),
    "vehicles": (
        {
            "boats": ("canoes", "ferries", "kayaks", "sailboats"),
            "cars": ("taxis", "convertibles", "limousines", "sedans"),
        },
        {"aircraft": ("jets", "helicopters", "gliders", "airliners")},
        ("red", "new", "for sale", "insured", "in the picture", "under repair"),
    ),
    "plants": (
        {
            "trees": ("oaks", "pines", "maples", "willows"),
            "vegetables": ("carrots", "onions", "cabbages", "turnips"),
        },
        {"flowers": ("roses", "tulips", "orchids", "daffodils")},
        ("healthy", "wet", "on the farm", "in the greenhouse", "near the fence", "expensive"),
    ),
}
# Hypothesis; premises that entail it; that leave it open; that contradict it. x are y, y are z.
SET_RULES = (
    (
        "Some {y} are {p}.",
        ("Some {x} are {p}.", "At least {n} {y} are {p}."),
        ("Some {z} are {p}.", "Not all {y} are {p}."),
        ("No {y} are {p}.", "No {z} are {p}."),
    ),
    (
        "No {y} are {p}.",
        ("No {z} are {p}.",),
        ("No {x} are {p}.", "Not all {y} are {p}."),
        ("Some {x} are {p}.", "Some {y} are {p}.", "At least {n} {x} are {p}."),
    ),
    (
        "All {y} are {p}.",
        ("All {z} are {p}.",),
        ("All {x} are {p}.", "Some {y} are {p}."),
        ("Some {x} are not {p}.", "Not all {y} are {p}.", "No {x} are {p}."),
    ),
    (
        "Not all {y} are {p}.",
        ("Some {x} are not {p}.", "No {x} are {p}."),
        ("Not all {z} are {p}.", "Some {y} are {p}."),
        ("All {z} are {p}.", "All {y} are {p}."),
    ),
    (
        "At least {n} {y} are {p}.",
        ("Exactly {more} {x} are {p}.", "At least {more} {y} are {p}."),
        ("At least {less} {y} are {p}.", "Exactly {more} {z} are {p}."),
        ("Exactly {less} {y} are {p}.", "No {z} are {p}."),
    ),
    (
        "Fewer than {n} {y} are {p}.",
        ("Exactly {less} {z} are {p}.", "No {z} are {p}."),
        ("Exactly {less} {x} are {p}.", "At least {less} {y} are {p}."),
        ("Exactly {more} {y} are {p}.", "At least {n} {x} are {p}."),
    ),
)

# Two opposites, of which exactly one is true, and who or what they are said of.
OPPOSITES_TRAIN = {
    ("open", "closed"): ("door", "window", "shop", "gate", "museum"),
    ("locked", "unlocked"): ("door", "gate", "safe", "drawer", "suitcase"),
    ("alive", "dead"): ("king", "horse", "fox", "fish"),
    ("asleep", "awake"): ("baby", "guard", "patient", "child"),
    ("guilty", "innocent"): ("driver", "banker", "suspect", "butler"),
    ("broken", "intact"): ("vase", "clock", "mirror", "bottle"),
}
OPPOSITES_DEV = {
    ("present", "absent"): ("teacher", "judge", "pupil", "manager"),
    ("occupied", "vacant"): ("room", "seat", "office", "flat"),
    ("visible", "invisible"): ("moon", "scar", "ship", "mountain"),
}
UNRELATED = ("old", "beautiful", "big", "famous")
OPPOSITE_RULES = (
    (
        "The {s} is {a}{w}.",
        ("The {s} is not {b}{w}.",),
        ("The {s} is {u}{w}.", "The {s} is not {u}{w}."),
        ("The {s} is {b}{w}.", "The {s} is not {a}{w}."),
    ),
    (
        "The {s} is not {a}{w}.",
        ("The {s} is {b}{w}.",),
        ("The {s} is {u}{w}.", "The {s} is not {u}{w}."),
        ("The {s} is {a}{w}.", "The {s} is not {b}{w}."),
    ),
)

COMPARISONS_TRAIN = (("older", "younger"), ("taller", "shorter"), ("faster", "slower"))
COMPARISONS_DEV = (("richer", "poorer"), ("stronger", "weaker"))
ORDER_RULES = (
    (
        "{i} is {a} than {j}.",
        ("{j} is {b} than {i}.", "{i} is {a} than {k}, and {k} is {a} than {j}."),
        ("{i} is {a} than {k}.", "{k} is {a} than {j}.", "{i} is {u} than {j}."),
        ("{j} is {a} than {i}.", "{i} is {b} than {j}."),
    ),
)


def _set_words(rng: random.Random, dev: bool) -> dict[str, str]:
    group = rng.choice(list(GROUPS))
    kinds, predicates = GROUPS[group][dev], GROUPS[group][2]
    kind = rng.choice(list(kinds))
    less, n, more = sorted(rng.sample(range(len(NUMBERS)), 3))
    return {
        "x": rng.choice(kinds[kind]),
        "y": kind,
        "z": group,
        "p": rng.choice(predicates) + rng.choice(WHEN),
        "less": NUMBERS[less],
        "n": NUMBERS[n],
        "more": NUMBERS[more],
    }


def _opposite_words(rng: random.Random, dev: bool) -> dict[str, str]:
    table = OPPOSITES_DEV if dev else OPPOSITES_TRAIN
    pair = rng.choice(list(table))
    a, b = rng.sample(pair, 2)
    subject = rng.choice(table[pair])
    return {"s": subject, "a": a, "b": b, "u": rng.choice(UNRELATED), "w": rng.choice(WHEN)}


def _order_words(rng: random.Random, dev: bool) -> dict[str, str]:
    first, second = rng.sample(COMPARISONS_DEV if dev else COMPARISONS_TRAIN, 2)
    a, b = rng.sample(first, 2)
    i, j, k = rng.sample(NAMES, 3)
    return {"i": i, "j": j, "k": k, "a": a, "b": b, "u": rng.choice(second)}


# rules, words, how often
FAMILIES = (
    (SET_RULES, _set_words, 3),
    (OPPOSITE_RULES, _opposite_words, 1),
    (ORDER_RULES, _order_words, 1),
)


def generate(rows: int, dev: bool = False, seed: int = 0) -> tuple[Row, ...]:
    """Rows from the grammar, in a random order; the three labels are equally frequent.

    Args:
        rows: a multiple of 3; about 10,000 is possible for training, 2,000 for dev.
        dev: take the words kept for dev.
        seed: the same seed gives the same rows on every machine.

    Raises:
        InputError: a number of rows that is not a multiple of 3, or more than there are.
    """
    if rows < 3 or rows % 3:
        raise InputError(f"The grammar writes rows by threes (one a label), not {rows}.")
    rng = random.Random(f"nli {'dev' if dev else 'train'} {seed}")
    families = [family for family in FAMILIES for _ in range(family[2])]
    made = {}
    for _ in range(20 * rows):
        rules, words, _ = rng.choice(families)
        rule, filled = rng.choice(rules), words(rng, dev)
        hypothesis = rule[0].format(**filled)
        if hypothesis not in made:
            made[hypothesis] = [rng.choice(options).format(**filled) for options in rule[1:]]
        if len(made) == rows // 3:
            break
    else:
        raise InputError(f"The grammar has no {rows} different rows; it wrote {3 * len(made)}.")
    written = [
        Row(premise, hypothesis, label)
        for hypothesis, premises in made.items()
        for label, premise in enumerate(premises)
    ]
    rng.shuffle(written)
    return tuple(written)


def read(task: Task) -> tuple[tuple[Row, ...], dict[str, tuple[Row, ...]], str]:
    """Training rows, dev rows and source of `nli`."""
    assert task.labels == LABELS == ("entailment", "neutral", "contradiction")
    return (
        generate(TRAIN_ROWS),
        {"dev": generate(DEV_ROWS, dev=True)},
        "Sentence pairs written by this kit's own grammar (toy data); dev is about kinds, "
        "opposites and comparisons that training never names.",
    )


def read_texts() -> tuple[tuple[str, ...], str]:
    """The training pairs' sentences that are in no dev pair, each once, and their source."""
    held_out = {text for row in generate(DEV_ROWS, dev=True) for text in row[:2]}
    texts = dict.fromkeys(text for row in generate(TRAIN_ROWS) for text in row[:2])
    return (
        tuple(text for text in texts if text not in held_out),
        "Sentences written by this kit's own grammar (toy data), none of them of the dev split.",
    )
