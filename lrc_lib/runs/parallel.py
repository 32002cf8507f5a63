"""One run over several processes: each takes a share of every batch, gradients are averaged.

`torchrun` starts the processes, on one host or many; torch.distributed carries the sums (NCCL
between GPUs, gloo between CPUs). The batch stays the paper's: with the default negatives, n
processes compute what one process would. Process 0 writes the store; the others follow it.
"""

import os
import signal
import tempfile
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lrc_lib.errors import InputError, LrcError, TrainingError
from lrc_lib.runs.device import resolve_device
from lrc_lib.training import ALONE, Group

STEP_MINUTES = 10  # a process that is silent for longer within a training is given up
WAIT_DAYS = 7  # process 0 may wait for another's lock, or a teacher be asked, for long
ROLL_CALL_SECONDS = 3.0


def check_processes(group: Group, spec, rows: int, batch_size: int, recipe) -> None:
    """Refuse a spec that does not fit the processes that started."""
    n = group.processes
    if spec.negatives == "process" and spec.processes != n:
        raise InputError(
            f"The spec takes negatives within each of {spec.processes} processes, but "
            f"{n} started: torchrun --nproc-per-node {spec.processes} "
            f"-m lrc_lib run SPEC.json --processes {spec.processes}"
        )
    if n == 1:
        return
    rest = rows % batch_size
    if batch_size % n:
        raise InputError(f"A batch of {batch_size} rows has no equal shares for {n}.")
    if not spec.drop_last and rest > 1 and rest % n:
        raise InputError(
            f"The last batch of an epoch has {rest} rows, no equal shares for {n} processes. "
            "Set drop_last to true."
        )
    if spec.negatives == "process" and batch_size < 2 * n:
        raise InputError(f"A batch of {batch_size} leaves no negatives to each of {n}.")
    if recipe.perturb and spec.perturb_norm == "tensor":
        raise InputError(
            'perturb_norm = "tensor" is a norm over the whole batch, which no process has. '
            'With several processes use "sample" or "token".'
        )
    if spec.compile == "on":  # may fail in one of them, which would then pad to other lengths
        raise InputError("compile = on is for one process; with several use --set compile=off.")
    if spec.keep == "best":
        raise InputError('keep = "best" is for one process; with several use "last".')


class Several(Group):
    """Two or more processes, joined by torch.distributed."""

    def __init__(self, rank: int, processes: int, store):
        self.rank, self.processes, self.store = rank, processes, store
        # Waits that may be long go by gloo, which notices at once when a process is gone.
        self.patient = dist.new_group(backend="gloo", timeout=timedelta(days=WAIT_DAYS))

    def same_start(self, net: nn.Module) -> None:
        state = {name: value.cpu() for name, value in net.state_dict().items()}
        net.load_state_dict(self.share(state))

    def reseed(self, seed: int, step: int) -> None:
        state = np.random.SeedSequence([seed, step, self.rank]).generate_state(1)
        torch.manual_seed(int(state[0]))

    def average_gradients(self, modules: nn.Module) -> None:
        gradients = [p.grad for p in modules.parameters() if p.grad is not None]
        flat = self.mean(nn.utils.parameters_to_vector(gradients))
        nn.utils.vector_to_parameters(flat, gradients)

    def sum(self, values: Tensor) -> Tensor:
        self._together(dist.all_reduce, values)
        return values

    def share(self, value):
        box = [value]
        self._together(dist.broadcast_object_list, box, src=0, group=self.patient)
        return box[0]

    @contextmanager
    def workplace(self, folder: Path):
        if self.rank == 0:
            folder.mkdir(exist_ok=True)
            yield folder
            return
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / folder.name
            folder.mkdir()
            yield folder

    def _together(self, function, *args, **options) -> None:
        try:
            function(*args, **options)
        except LrcError:  # from the signal handler
            raise
        except RuntimeError as error:
            raise TrainingError(self.roll_call(str(error).splitlines()[0])) from error

    def say_goodbye(self, error: BaseException) -> None:
        """Tells the others what this process ends with."""
        try:
            self.store.set(f"ended/{self.rank}", f"{error}" or type(error).__name__)
        except RuntimeError:  # the list is gone with its keeper
            pass

    def roll_call(self, symptom: str) -> str:
        """Who is gone, in a sentence: those that left a word, or say nothing for a while."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends all who are left
        silent = [rank for rank in range(self.processes) if rank != self.rank]
        ended, deadline = {}, time.monotonic() + ROLL_CALL_SECONDS
        try:
            self.store.set(f"here/{self.rank}", "")
            while silent and time.monotonic() < deadline:
                silent = [rank for rank in silent if not self.store.check([f"here/{rank}"])]
                words = [rank for rank in silent if self.store.check([f"ended/{rank}"])]
                ended |= {rank: self.store.get(f"ended/{rank}").decode() for rank in words}
                silent = [rank for rank in silent if rank not in ended]
                time.sleep(0.1)
        except RuntimeError:
            ended[0] = "it kept the list of processes, which is gone"
        ended |= {rank: "without a word (killed, or out of memory?)" for rank in silent}
        who = "; ".join(f"process {r} of {self.processes} ended: {s}" for r, s in ended.items())
        return (
            f"Process {self.rank} stops: {who or symptom}. What was trained up to the last "
            "checkpoint is kept, and the same command goes on from there."
        )


_joined: list[Several] = []


def current() -> Group:
    """The group that this process trains in.

    Raises:
        InputError: torchrun started several processes, but nobody joined them by `together`.
    """
    if not _joined:
        _check_started(1)
    return _joined[0] if _joined else ALONE


def _check_started(processes: int) -> None:
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started != processes:
        raise InputError(
            f"{started} process(es) started, but {processes} asked for: "
            f"torchrun --nproc-per-node N -m lrc_lib run SPEC.json --processes N, with the same N "
            "(N in all, if there are several hosts)."
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
        InputError: another number started, or fewer GPUs.
        TrainingError: another process is gone; the message says which and why.
    """
    _check_started(processes)
    if processes == 1:
        yield device
        return
    device, backend = _own_device(device)
    store, rank, _ = next(dist.rendezvous("env://"))
    dist.init_process_group(
        backend, store=dist.PrefixStore("torch", store), rank=rank, world_size=processes,
        timeout=timedelta(minutes=STEP_MINUTES),
    )  # fmt: skip
    group = Several(rank, processes, store)
    _joined.append(group)

    def stop(*_):
        raise TrainingError(group.roll_call("it was told to stop (SIGTERM)"))

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield device
        dist.destroy_process_group()
    except BaseException as error:
        group.say_goodbye(error)
        raise
    finally:
        _joined.clear()
        signal.signal(signal.SIGTERM, before)


def _own_device(device: str) -> tuple[str, str]:
    """(device, backend) of this process."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if resolve_device(device).type == "cpu":
        return device, "gloo"
    if device != "cuda":
        raise InputError(f"With several processes --device is auto, cpu or cuda, not '{device}'.")
    number, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= gpus:
        raise InputError(f"This host has {gpus} GPU(s); start at most as many processes on it.")
    torch.cuda.set_device(number)
    return f"cuda:{number}", "nccl"
