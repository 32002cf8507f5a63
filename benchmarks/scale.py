"""How the cost of a step grows: with batch size, negatives, length and layers.

  python -m benchmarks.scale [--device cuda] [--out DIR]

For each quantity the exponent of seconds ~ quantity ** slope is fitted: 0 costs nothing, 1 is
linear. Random tokens and random teacher states of MiniLM's width; the paper's student unless the
quantity says otherwise.
"""

from contextlib import nullcontext

import numpy as np
import torch

from lrc_lib.losses import cos_nce, cos_nce_target, cos_nce_to, in_batch_cos_nce
from lrc_lib.models import Projection, build_student, embeddings_replaced
from lrc_lib.perturbation import perturb_embeddings
from lrc_lib.runs.device import resolve_device
from lrc_lib.runs.dropout import cheap_dropout
from lrc_lib.training import build_optimizer

from .measure import Clock, parser, slope, write

WIDTH, TEACHER_WIDTH, LENGTH, BATCH = 312, 384, 32, 16


def least_seconds(works: dict, clock, rounds: int) -> dict:
    """{key: least seconds} of calling each of `works`, in turn, `rounds` times after a warm-up.

    The least, because another process can only add; calls of milliseconds are made 20 at a time.
    """
    seconds, calls = {key: [] for key in works}, {}
    for turn in range(rounds + 1):
        for key, work in works.items():
            times, begun = calls.get(key, 1), clock()
            for _ in range(times):
                work()
            spent = (clock() - begun) / times
            if turn:
                seconds[key].append(spent)
            elif spent < 0.02:
                calls[key] = 20
    return {key: min(values) for key, values in seconds.items()}


def lrc_step(device, batch=BATCH, length=LENGTH, layers=4):
    """A function that does one perturbed step of layer distillation, its optimiser's included."""
    torch.manual_seed(0)
    student = build_student(layers=layers, vocab_size=2000).to(device)
    projection = Projection(WIDTH, TEACHER_WIDTH).to(device)
    trained = torch.nn.ModuleList([student, projection]).train()
    optimizer = build_optimizer(trained, 1e-4, 0.01, device)
    ids = torch.randint(5, 2000, (batch, length), device=device)
    mask = torch.ones_like(ids)
    taught = [torch.randn(batch, length, TEACHER_WIDTH, device=device) for _ in range(layers)]

    def loss(embeddings, targets):
        with embeddings_replaced(student, embeddings):
            states = student(ids, attention_mask=mask, output_hidden_states=True).hidden_states[1:]
        pairs = zip(states, targets, strict=True)
        return sum(cos_nce_to(projection(s), target, mask).mean() for s, target in pairs)

    def step():
        with cheap_dropout(student) if ids.device.type == "cpu" else nullcontext():
            embeddings = student.bert.embeddings(input_ids=ids)
            targets = [cos_nce_target(t, mask) for t in taught]
            moved = perturb_embeddings(embeddings, loss(embeddings, targets), mask=mask)
            loss(moved, targets).backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def losses_of_a_step(device, layers=4):
    """All that COS-NCE takes of `lrc_step`: the teacher's part once, then both passes."""
    shape = BATCH, LENGTH, TEACHER_WIDTH
    mask = torch.ones(shape[:2], dtype=torch.long, device=device)
    students = [torch.randn(shape, device=device, requires_grad=True) for _ in range(layers)]
    teachers = [torch.randn(shape, device=device) for _ in range(layers)]

    def work():
        for student, teacher in zip(students, teachers, strict=True):
            target = cos_nce_target(teacher, mask)
            for _ in range(2):
                torch.autograd.grad(cos_nce_to(student, target, mask).mean(), student)

    return work


def loss_alone(device, batch, negatives=None, tokens=BATCH * LENGTH):
    """COS-NCE and its gradient; in-batch at the same number of tokens, or with K explicit ones."""
    width = tokens // batch * TEACHER_WIDTH
    student = torch.randn(batch, width, device=device, requires_grad=True)
    teacher = torch.randn(batch, width, device=device)
    if negatives is None:
        return lambda: torch.autograd.grad(in_batch_cos_nce(student, teacher), student)
    others = torch.randn(batch, negatives, width, device=device)
    return lambda: torch.autograd.grad(cos_nce(student, teacher, others), student)


def sweeps(device) -> dict:
    """{quantity: {value: work}}."""
    return {
        "batch size": {b: lrc_step(device, batch=b) for b in (4, 8, 16, 32)},
        "length": {n: lrc_step(device, length=n) for n in (16, 32, 64, 128)},
        "layers": {n: lrc_step(device, layers=n) for n in (2, 4, 8)},
        "K in the batch, loss alone": {
            b - 1: loss_alone(device, b, tokens=256 * 2) for b in (16, 32, 64, 128, 256)
        },
        "K given one by one, loss alone": {
            k: loss_alone(device, BATCH, k, tokens=BATCH * 2) for k in (15, 63, 255)
        },
    }


def figure(lines, path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from lrc_lib.course.palette import use_style

    use_style()
    fig, axes = plt.subplots(1, len(lines), figsize=(3.2 * len(lines), 3), layout="constrained")
    for ax, line in zip(axes, lines, strict=True):
        x, y = zip(*line["seconds"], strict=True)
        ax.plot(x, y, marker="o")
        ax.set(xscale="log", xlabel=line["quantity"], ylim=(0, 1.1 * max(y)))
        ax.set_xticks(x, [str(value) for value in x])
        ax.minorticks_off()
        ax.set_title(f"slope {line['slope']:.2f}")
    axes[0].set_ylabel("seconds")
    fig.savefig(path, dpi=120)
    plt.close(fig)


def main(arguments=None) -> None:
    command = parser("scale", __doc__)
    command.add_argument("--rounds", type=int, default=7)
    options = command.parse_args(arguments)
    device = resolve_device(options.device)
    clock, lines = Clock(device), []
    for quantity, works in sweeps(device).items():
        measured = least_seconds(works, clock, options.rounds)
        fitted = slope(np.array(list(measured)), np.array(list(measured.values())))
        lines.append({"quantity": quantity, "seconds": list(measured.items()), "slope": fitted})
    share = least_seconds(
        {"loss": losses_of_a_step(device), "step": lrc_step(device)}, clock, options.rounds
    )
    extra = {"cos_nce_share_of_a_step": share["loss"] / share["step"]}
    name = f"scale-{device.type}"
    write([*lines, extra], name, options.out, device)
    if options.out:
        figure(lines, f"{options.out}/{name}.png")


if __name__ == "__main__":
    main()
