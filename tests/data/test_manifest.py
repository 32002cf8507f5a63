"""The manifest of a folder: what it lists, and how it is written and read."""

import hashlib
import json
import os

import pytest

from lrc_lib.data.manifest import MANIFEST, read_manifest, write_manifest


def entry(content):
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


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
        assert write_manifest(folder) == {"files": expected} == read_manifest(folder)
    assert not (folder / f"{MANIFEST}.partial").exists()


def test_it_lists_the_named_files_only(folder):
    made = write_manifest(folder, ["student/model.bin"])
    assert list(made["files"]) == ["student/model.bin"] and read_manifest(folder) == made
    with pytest.raises(FileNotFoundError):
        write_manifest(folder, ["gone"])
    assert read_manifest(folder) == made


def test_an_interrupted_writing_leaves_the_manifest_of_before(folder, monkeypatch):
    made = write_manifest(folder)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    (folder / "metrics.json").write_bytes(b"{}")
    with pytest.raises(KeyboardInterrupt):
        write_manifest(folder)
    monkeypatch.undo()
    assert read_manifest(folder) == made != write_manifest(folder)


@pytest.mark.parametrize("content", [None, "", "{", "[]", json.dumps({"a": 1}), "\xff"])
def test_what_is_no_manifest_reads_as_none(tmp_path, content):
    if content is not None:
        (tmp_path / MANIFEST).write_bytes(content.encode("latin-1"))
    assert read_manifest(tmp_path) is None
