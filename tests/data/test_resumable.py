"""A file written in parts: interrupted, torn, on a full disk, by two at once."""

import json
import os
import threading
import time

import pytest

from lrc_lib.data.resumable import sole_writer, write_parts
from lrc_lib.errors import InputError, UnavailableError

PARTS = [f"part {i} ".encode() * (i + 1) for i in range(6)]
WHOLE = b"".join(PARTS)


class Writer:
    """Writes `PARTS`, interrupted before the part `stop`; `made` lists the parts it made."""

    def __init__(self, folder, stop=None):
        self.path, self.record = folder / "deep" / "file.bin", folder / "deep" / "state.json"
        self.stop, self.made, self.stored = stop, [], []

    def parts(self, state):
        for number in range(state["next"], len(PARTS)):
            if number == self.stop:
                raise KeyboardInterrupt
            self.made.append(number)
            yield PARTS[number], {"next": number + 1}
            self.stored.append(json.loads(self.record.read_text())["next"])

    def write(self):
        return write_parts(self.path, self.record, {"next": 0}, self.parts)

    def interrupted(self):
        with pytest.raises(KeyboardInterrupt):
            self.write()
        return self


def test_the_file_is_the_parts_one_after_the_other(tmp_path):
    writer = Writer(tmp_path)
    assert writer.write() == {"next": 6, "bytes": len(WHOLE)}
    assert writer.path.read_bytes() == WHOLE and writer.stored == [1, 2, 3, 4, 5, 6]
    again = Writer(tmp_path)
    assert again.write() == {"next": 6, "bytes": len(WHOLE)} and again.made == []


@pytest.mark.parametrize("stop", [0, 1, 4])
@pytest.mark.parametrize("torn", [b"", b"torn"])
def test_an_interrupted_writing_continues_to_the_same_bytes(tmp_path, stop, torn):
    first = Writer(tmp_path, stop).interrupted()
    with first.path.open("ab") as file:
        file.write(torn)
    second = Writer(tmp_path)
    second.write()
    assert second.path.read_bytes() == WHOLE
    assert first.made + second.made == list(range(6))  # nothing twice


@pytest.mark.parametrize("lost", ["bytes", "file", "record", "half of the record", "bits"])
def test_what_was_lost_is_written_again(tmp_path, lost):
    first = Writer(tmp_path, 4).interrupted()
    if lost == "bytes":
        os.truncate(first.path, 10)
    elif lost == "half of the record":
        first.record.write_text(first.record.read_text()[:9])
    elif lost == "bits":
        first.path.write_bytes(first.path.read_bytes().replace(b"part 2", b"part 0", 1))
    else:
        (first.path if lost == "file" else first.record).unlink()
    second = Writer(tmp_path)
    second.write()
    assert second.path.read_bytes() == WHOLE and second.made == list(range(6))


def test_errors_of_the_kit_pass_and_those_of_the_disk_are_one_sentence(tmp_path):
    for error in (InputError("wrong"), UnavailableError("no network")):
        with pytest.raises(type(error), match=f"^{error}$"):
            with sole_writer(tmp_path / "a", tmp_path / "b", "it"):
                raise error
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="Cannot write it to '.*file'"):
        with sole_writer(tmp_path / "file" / "a", tmp_path / "b", "it"):
            pytest.fail("the folder cannot be made")


def test_two_writers_take_turns(tmp_path):
    target, made = tmp_path / "target", []

    def write():
        with sole_writer(target, tmp_path / "partial", "it"):
            if not target.exists():
                made.append(1)
                time.sleep(0.05)  # long enough for another to come
                (tmp_path / "partial").write_bytes(WHOLE)
                os.replace(tmp_path / "partial", target)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1] and target.read_bytes() == WHOLE
