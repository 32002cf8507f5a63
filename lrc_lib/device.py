"""Which device to compute on."""

import torch

from .errors import InputError


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
