"""Fingerprints of models and files, for the ids of runs that depend on them."""

import functools
import hashlib
import os
from pathlib import Path

from lrc_lib.errors import InputError


@functools.lru_cache(maxsize=32)
def model_fingerprint(model: str) -> str:
    """The name of a model; for a folder, 16 hex digits of its configuration and weights."""
    if not os.path.isdir(model):
        return model
    digest = hashlib.sha256()
    for path in sorted(Path(model).iterdir()):
        if path.suffix in (".json", ".safetensors", ".bin", ".txt"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=4)
def file_fingerprint(path: str) -> str:
    """16 hex digits of a file's sha256.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise InputError(f"Cannot read the word vectors '{path}': {error.strerror}.") from None
