"""What length buckets do: to padding, to the negatives that meet in a batch, and to accuracy.

  python -m benchmarks.buckets [--seeds 5] [--recipe lrc_1] [--out DIR]

The batch is COS-NCE's set of negatives, so an order that puts rows of like length together also
changes the loss. Trains `--seeds` students in a plain order and as many in the profile's buckets,
on its main task, and reports the difference of their scores with its interval over rows and seeds.
"""

import os

import numpy as np

from lrc_lib import find, run
from lrc_lib.course.notebook import output_root
from lrc_lib.data import get_task
from lrc_lib.data.batches import collate, encode, epoch_order
from lrc_lib.losses import angular_distance
from lrc_lib.models import load_tokenizer
from lrc_lib.results.statistics import estimate
from lrc_lib.runs.pool import close_over, train_all
from lrc_lib.runs.profiles import load_profile
from lrc_lib.runs.spec import data_of
from lrc_lib.teacher import LiveTeacher

from .measure import parser, write
from .table import Silent

BATCHES = 40


def orders(spec, buckets, out) -> dict:
    """{bucket: padding and the angular distance of negatives to their row's teacher, one epoch}."""
    tokenizer = load_tokenizer(spec.teacher)
    encoded = encode(data_of(spec).train, tokenizer, spec.max_length)
    model = find(spec.teacher_spec(), out).student()
    teacher = LiveTeacher(model, [model.config.num_hidden_layers], spec.representation, "cpu")
    found = {}
    for bucket in buckets:
        order = epoch_order(encoded.lengths, 0, 0, spec.batch_size, bucket)
        batches = order[: len(order) // spec.batch_size * spec.batch_size]
        batches = batches.reshape(-1, spec.batch_size)
        distances = []
        for indices in batches[:BATCHES]:
            batch = collate(encoded, indices)
            real = batch["attention_mask"].unsqueeze(-1)
            states = (teacher(indices, batch).states[0] * real).flatten(1)
            all_pairs = angular_distance(states[:, None], states[None])
            distances.append(all_pairs[~np.eye(len(states), dtype=bool)].mean().item())
        lengths = encoded.lengths[batches]
        found[bucket] = {
            "padded_over_real_tokens": float(lengths.max(1).mean() / lengths.mean()),
            "mean_distance_of_negatives": float(np.mean(distances)),
        }
    return found


def main(arguments=None) -> None:
    command = parser("buckets", __doc__)
    command.add_argument("--profile", default="laptop")
    command.add_argument("--set", nargs="+", default=[], metavar="K=V")
    command.add_argument("--recipe", default="lrc_1")
    command.add_argument("--seeds", type=int, default=5)
    command.add_argument("--store", default="", metavar="DIR", help="of runs; default out/")
    command.add_argument("--jobs", type=int, default=os.cpu_count())
    options = command.parse_args(arguments)
    profile, store = load_profile(options.profile, options.set), output_root(options.store)
    chosen = profile.spec(profile.tasks[0], options.recipe, 0)
    # One teacher for both orders, taken as it is: its own order is not what is compared.
    teacher = run(chosen.teacher_spec(), store, options.device)
    chosen = chosen.replace(teacher=str(teacher.path / "student"), teacher_epochs=0)
    buckets = (0, chosen.bucket or 16)
    specs = {
        bucket: [chosen.replace(bucket=bucket, seed=s) for s in range(options.seeds)]
        for bucket in buckets
    }
    everything = [spec for members in specs.values() for spec in members]
    train_all(close_over(everything), store, options.device, options.jobs, Silent())
    task = get_task(chosen.task, chosen.data)
    lines = [{"bucket": b, **facts} for b, facts in orders(chosen, buckets, store).items()]
    for split in task.dev_splits:
        plain, bucketed = (
            estimate([find(spec, store) for spec in specs[b]], task, split) for b in buckets
        )
        for what, measured in (
            ("plain order", plain), (f"buckets of {buckets[1]}", bucketed),
            ("buckets - plain", bucketed - plain),
        ):  # fmt: skip
            line = {"split": split, "what": what, "metric": task.primary, "points": measured.value}
            line |= {"low": measured.low, "high": measured.high, "basis": measured.basis()}
            lines.append(line)
    seconds = {
        bucket: sum(find(spec, store).provenance["seconds"] for spec in members)
        for bucket, members in specs.items()
    }
    lines.append({"training_seconds": seconds, "recipe": options.recipe})
    write(lines, f"buckets-{options.recipe}", options.out, options.device)


if __name__ == "__main__":
    main()
