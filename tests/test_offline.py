"""Nothing asks the network where teacher and data are here: no telemetry, no look-ups."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WATCH = """
import os, socket, sys

def note(what):
    with open(os.environ["LRC_ASKED"], "a") as file:
        file.write(f"{what}\\n")

def refused(real):
    def call(*arguments, **more):
        address = next((a for a in arguments if isinstance(a, str | tuple | bytes)), "")
        host = address[0] if isinstance(address, tuple) else address
        if arguments and getattr(arguments[0], "family", None) == getattr(socket, "AF_UNIX", ""):
            return real(*arguments, **more)
        if str(host) not in ("127.0.0.1", "::1", "localhost", ""):
            note(f"{real.__name__} {host}")
            raise OSError("the network is cut off")
        return real(*arguments, **more)
    return call

note(f"started {os.getpid()}")
socket.getaddrinfo = refused(socket.getaddrinfo)
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refused(getattr(socket.socket, name)))
"""


def test_nothing_asks_the_network(tiny_spec, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    spec, asked = tmp_path / "spec.json", tmp_path / "asked"
    spec.write_text(tiny_spec.replace(recipe="lrc_1", epochs=1).to_json())
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "LRC_ASKED": str(asked)}
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "LRC_OFFLINE"):
        environment.pop(name, None)
    out = ["--out", str(tmp_path / "out")]
    for command in (
        ["run", str(spec), *out],
        ["reproduce", "--profile", "smoke", "--only", "01", "--offline", *out],
    ):
        call = [sys.executable, "-m", "lrc_lib", *command]
        done = subprocess.run(call, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    lines = asked.read_text().splitlines()
    assert len([line for line in lines if line.startswith("started")]) >= 4  # kernels too
    assert [line for line in lines if not line.startswith("started")] == []
    code = "import socket; socket.create_connection(('192.0.2.1', 80))"
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert "192.0.2.1" in asked.read_text()  # an attempt would have been seen
