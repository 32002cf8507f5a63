"""On which device and with which precision a run is computed, and what to do without memory.

Device, threads, compilation and the number of processes change rounding, and which numbers dropout
draws, as another seed would. They are in a run's provenance; only the precision is part of its id.
Losses stay in float32 whatever the precision (`lrc_lib.losses`).
"""

import platform
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import psutil
import torch
from joblib import cpu_count

from lrc_lib.errors import InputError, TrainingError
from lrc_lib.runs.spec import RunSpec, usable_length

JOB_BYTES = 2.5e9  # the largest peak of one job of `laptop`, kept answers included


def resolve_device(device: str = "auto") -> torch.device:
    """ "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:1" or "mps" as a device.

    Raises:
        InputError: unknown, or not on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = device.split(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise InputError(f"device must be auto, cpu, cuda or mps, not '{device}'.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"--device {device}, but this torch ({torch.__version__}) sees no CUDA GPU. "
            "Use --device cpu, or install a CUDA build of torch."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps, but this machine has no MPS. Use --device cpu.")
    return torch.device(device)


def default_jobs(device: torch.device) -> int:
    """How many runs train at the same time: one per core on a CPU, up to 4 on a CUDA GPU, else 1.

    Cores that this process may not use (affinity, the CPU quota of a container) do not count, and
    memory bounds the number: see `memory`.

    A student of 14M parameters leaves most of a GPU waiting for its next kernel, and several
    processes fill it as far as their memory allows. The number 4 is a guess, not a measurement.
    """
    cores, fit = cpu_count(), int((memory() - 1e9) / JOB_BYTES)  # 1 GB for all others
    most = {"cpu": cores, "cuda": min(4, cores // 2)}.get(device.type, 1)
    return max(1, min(most, fit))


def jobs_now(jobs: int) -> int:
    """How many of `jobs` runs fit into the memory that is free now; at least 1."""
    return max(1, min(jobs, int(psutil.virtual_memory().available / JOB_BYTES)))


def memory() -> float:
    """Bytes of memory here: of the machine or, if that is less, those that its cgroup may take.

    What is free now is not asked here, see `jobs_now`: the number of jobs sets their threads, and
    results must not depend on what else is open.
    """
    sizes = [psutil.virtual_memory().total]
    for path in _limits():
        with suppress(OSError, ValueError):  # no such file, or "max"
            sizes.append(int(path.read_text()))
    return min(sizes)


def _limits(root: Path = Path("/")):
    """The files with the memory limits of this process's cgroup and of all around it.

    Within a container its cgroup is the outermost one; a job of a cluster has one further down.
    """
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kinds, place = line.split(":", 2)
            name = {"": "memory.max", "memory": "memory.limit_in_bytes"}.get(kinds)  # version 2, 1
            for folder in (Path(place), *Path(place).parents) if name else ():
                yield root / "sys/fs/cgroup" / kinds / folder.relative_to("/") / name


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device does not have, or computes a hundred times slower.

    Raises:
        InputError: TF32 without CUDA, or bf16 on a CPU that has no instructions for it.
    """
    if precision == "tf32" and device.type != "cuda":
        raise InputError("precision = tf32 is for a CUDA GPU. Use --set precision=fp32 here.")
    if precision == "bf16" and device.type == "cpu" and not has_bf16(device):
        raise InputError(
            "precision = bf16 on this CPU, which has no bfloat16 instructions, is about 100 times "
            "slower than fp32. Use --set precision=fp32 here."
        )


def has_bf16(device) -> bool:
    """Whether a device multiplies in bfloat16 by instructions of its own, as far as torch can tell.

    A CPU with AVX512-BF16, AMX or Arm's bf16, or a CUDA GPU from Ampere on.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if kind != "cpu":
        return False
    if platform.machine().lower() in ("arm64", "aarch64"):
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def usual_precision(device: str = "auto") -> str:
    """What a profile's precision = "auto" means on a device: "bf16" where it has it, else "fp32".

    Raises:
        InputError: see `resolve_device`.
    """
    return "bf16" if has_bf16(resolve_device(device)) else "fp32"


def autocast(precision: str, device):
    """The context of forward passes: bfloat16 where `precision` is "bf16", else nothing."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def matmuls(precision: str):
    """Within this context float32 matrix products may use TF32, if `precision` is "tf32"."""
    usual = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(usual)


@contextmanager
def memory_advice(spec: RunSpec):
    """Turns an out-of-memory error of a GPU into one that names the next smaller settings."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        prefix = {"teacher": "teacher_", "general": "general_"}.get(spec.kind, "")
        rows = getattr(spec, f"{prefix}batch_size")
        longest = "general_max_length" if spec.kind == "general" else "max_length"
        tokens = usable_length(spec)
        ways = [f"--set {longest}={max(8, tokens // 2)} (now {tokens}; longer texts are cut)"]
        if rows > 2:
            more = "" if spec.kind == "teacher" else "; fewer negatives: another experiment"
            ways.insert(0, f"--set {prefix}batch_size={max(2, rows // 2)} (now {rows}{more})")
        if spec.kind != "teacher" and spec.cache_gb:
            ways.append(
                f"--set cache_gb={spec.cache_gb / 2:g} (now {spec.cache_gb:g}; cached teacher "
                "outputs lie in its memory where they fit)"
            )
        raise TrainingError(
            f"The GPU has not enough memory for {spec.name}. Try, one after the other: "
            f"{', '.join(ways)}. Or fewer processes (--jobs 1). "
            f"The error was: {str(error).strip().splitlines()[0]}"
        ) from error
