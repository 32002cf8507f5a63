"""The manifest of a folder: what it lists, and how it is written."""

import hashlib
import json
import os

import pytest

from lrc_lib.data.manifest import MANIFEST, write_manifest


def entry(content):
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def written(folder):
    return json.loads((folder / MANIFEST).read_text())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "model.bin").write_bytes(b"w" * 300_000)
    (tmp_path / "metrics.json").write_bytes(b"")
    for name in ("x.lock", "x.partial", "student/.y.lock"):
        (tmp_path / name).write_bytes(b"in passing")
    return tmp_path


def test_it_lists_every_file_but_itself_locks_and_partial_files(folder):
    expected = {"metrics.json": entry(b""), "student/model.bin": entry(b"w" * 300_000)}
    for _ in range(2):  # the second time there is a manifest already
        write_manifest(folder)
        assert written(folder) == {"files": expected}
    assert not (folder / f"{MANIFEST}.partial").exists()


def test_an_interrupted_writing_leaves_the_earlier_manifest(folder, monkeypatch):
    write_manifest(folder)
    before = written(folder)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    (folder / "metrics.json").write_bytes(b"{}")
    with pytest.raises(KeyboardInterrupt):
        write_manifest(folder)
    assert written(folder) == before
