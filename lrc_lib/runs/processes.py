"""One run over several processes: each takes a share of every batch; gradients are averaged.

`torchrun` starts the processes, on one host or on several; torch.distributed adds up over them
(NCCL between GPUs, gloo between CPUs). The batch is the same as with one process: with the default
negatives, n processes compute what one process would. Process 0 writes the store.
"""

import os
import signal
import tempfile
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lrc_lib.errors import InputError, LrcError, TrainingError
from lrc_lib.runs.device import resolve_device
from lrc_lib.training import Group

STEP = timedelta(minutes=10)  # how long the processes wait for each other within a step
WAIT = timedelta(days=1)  # how long they wait for process 0, which may itself wait for a lock


class ProcessGroup(Group):
    """Two or more processes, joined by torch.distributed."""

    def __init__(self, rank: int, processes: int):
        self.rank, self.processes = rank, processes
        self.patient = dist.new_group(backend="gloo", timeout=WAIT)

    def same_start(self, modules: nn.Module) -> None:
        state = {name: value.cpu() for name, value in modules.state_dict().items()}
        modules.load_state_dict(self.share(state))

    def reseed(self, seed: int, step: int) -> None:
        state = np.random.SeedSequence([seed, step, self.rank]).generate_state(1)
        torch.manual_seed(int(state[0]))

    def average_gradients(self, modules: nn.Module) -> None:
        gradients = [p.grad for p in modules.parameters() if p.grad is not None]
        flat = self.mean(nn.utils.parameters_to_vector(gradients))
        nn.utils.vector_to_parameters(flat, gradients)

    def sum(self, values: Tensor) -> Tensor:
        with self._or_stop():
            dist.all_reduce(values)
        return values

    def share(self, value):
        box = [value]
        with self._or_stop():
            dist.broadcast_object_list(box, src=0, group=self.patient)
        return box[0]

    @contextmanager
    def workplace(self, folder: Path):
        scratch = tempfile.TemporaryDirectory() if self.rank else nullcontext(folder.parent)
        with scratch as parent, super().workplace(Path(parent) / folder.name) as folder:
            yield folder

    @contextmanager
    def _or_stop(self):
        try:
            yield
        except LrcError:  # from the signal handler
            raise
        except RuntimeError as error:
            self.stop(str(error).splitlines()[0])

    def stop(self, symptom: str):
        """Raise the error of a process that cannot continue without the others."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it to all that are left
        raise TrainingError(
            f"Process {self.rank} of {self.processes} stops: {symptom}. Another process has ended "
            "or does not answer; torchrun names the first that failed. What was trained up to the "
            "last checkpoint is kept, and the same command continues from there."
        )


def check_processes(group: Group, spec, rows: int, batch_size: int, recipe) -> None:
    """Refuse a run that this number of processes cannot train.

    Args:
        rows: of the training data.
        batch_size: rows of a batch, over all processes.
        recipe: a `lrc_lib.schedule.Recipe`; only its `perturb` counts.

    Raises:
        InputError: the batch has no equal shares, or the spec asks for what needs one process.
    """
    n, own, rest = group.processes, spec.negatives == "process", rows % batch_size
    if own and spec.processes != n:
        raise InputError(
            f"The spec takes negatives within each of {spec.processes} processes, but {n} started: "
            f"torchrun --nproc-per-node {spec.processes} -m lrc_lib run SPEC.json "
            f"--processes {spec.processes}"
        )
    if n == 1:
        return
    unequal = f"no equal shares for {n} processes"
    if batch_size % n:
        raise InputError(f"A batch of {batch_size} rows has {unequal}. Take a multiple of {n}.")
    if not spec.drop_last and rest > 1 and rest % n:
        raise InputError(
            f"The last batch of an epoch has {rest} rows, {unequal}. Use --set drop_last=true."
        )
    if own and batch_size < 2 * n:
        raise InputError(
            f"A batch of {batch_size} rows leaves no negatives to each of {n} processes. "
            f"Take {2 * n} rows or more."
        )
    # A compilation may fail in one process, which would then pad to other lengths than the others.
    # Only process 0 scores on dev. The norm "tensor" is over the whole batch, which no process has.
    refused = [("compile", "on", "off"), ("keep", "best", "last")]
    if recipe.perturb:
        refused.append(("perturb_norm", "tensor", "sample"))
    for name, value, other in refused:
        if getattr(spec, name) == value:
            raise InputError(
                f"{name} = {value} is for one process. With several use --set {name}={other}."
            )


_group = Group()


def current() -> Group:
    """The group that this process trains in.

    Raises:
        InputError: torchrun started several processes, but they were not joined by `together`.
    """
    if _group.processes == 1:
        _check_started(1)
    return _group


def _check_started(processes: int) -> None:
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started != processes:
        raise InputError(
            f"{started} process(es) started, but {processes} asked for: "
            f"torchrun --nproc-per-node N -m lrc_lib run SPEC.json --processes N, with the same N "
            "(over all hosts, if there are several)."
        )


@contextmanager
def together(processes: int = 1, device: str = "auto"):
    """Within it, `run` trains with all the processes that torchrun started.

    Args:
        processes: how many there must be; 1 for a plain Python process.
        device: "auto", "cpu" or "cuda"; each process of a host gets a GPU of its own.

    Yields:
        The device of this process, as `run` takes it.

    Raises:
        InputError: another number of processes started, or there are fewer GPUs.
        TrainingError: another process has ended.
    """
    global _group
    _check_started(processes)
    if processes == 1:
        yield device
        return
    device, backend = _own_device(device)
    dist.init_process_group(backend, timeout=STEP)
    _group = group = ProcessGroup(dist.get_rank(), processes)
    before = signal.signal(signal.SIGTERM, lambda *_: group.stop("it was told to (SIGTERM)"))
    try:
        yield device
        dist.destroy_process_group()
    finally:
        _group = Group()
        signal.signal(signal.SIGTERM, before)


def _own_device(device: str) -> tuple[str, str]:
    """(device, backend of torch.distributed) of this process."""
    if device == "auto" and not torch.cuda.is_available():
        device = "cpu"
    if resolve_device(device).type == "cpu":
        return device, "gloo"
    number, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= gpus or device not in ("auto", "cuda"):
        raise InputError(
            "With several processes --device is auto, cpu or cuda, and each takes one GPU. "
            f"This host has {gpus} GPU(s): start at most as many processes on it."
        )
    torch.cuda.set_device(number)
    return f"cuda:{number}", "nccl"
