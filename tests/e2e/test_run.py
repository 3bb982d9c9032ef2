"""`make run` itself: it says what is wrong, and leaves nothing behind however it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.ports import free_port
from local.stack import ROOT
from tests.e2e.support import DEADLINE_SECONDS, descendants, eventually, is_alive

pytestmark = pytest.mark.stack


@contextmanager
def _run(state_dir: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    ports = {"PORT": str(free_port()), "STRIPE_PORT": str(free_port())}
    process = subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-m", "local.run", "--state-dir", str(state_dir)],
        cwd=ROOT,
        env={**os.environ, **ports, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def _none_alive(pids: set[int]) -> None:
    eventually(lambda: {pid for pid in pids if is_alive(pid)}, lambda alive: not alive)


def test_stopping(tmp_path: Path) -> None:
    """Ctrl-C ends a serving world and all its processes; the description of it goes, the logs stay."""
    with _run(tmp_path) as process:
        eventually((tmp_path / "run.json").exists, bool)
        started = descendants(process.pid)
        assert len(started) >= 3
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 0
        _none_alive(started)
    assert not (tmp_path / "run.json").exists()
    assert (tmp_path / "logs/front.log").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopping_while_it_starts(tmp_path: Path, number: signal.Signals) -> None:
    """A run that is ended before it serves leaves no process either, not even when it is killed."""
    with _run(tmp_path) as process:
        started = eventually(lambda: descendants(process.pid), lambda pids: len(pids) >= 2)
        process.send_signal(number)
        process.wait(DEADLINE_SECONDS)
        _none_alive(started)


@pytest.mark.parametrize("variable", ["PORT", "STRIPE_PORT"])
def test_port_taken(tmp_path: Path, variable: str) -> None:
    """A port that is taken is told at once, by its number and the variable that changes it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        began = time.monotonic()
        with _run(tmp_path, **{variable: str(port)}) as process:
            _, complaint = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert str(port) in complaint
    assert f"{variable}=" in complaint
    assert "Traceback" not in complaint
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"PORT": "eight thousand"}, "PORT"),
        ({"STRIPE_API_KEY": "sk_live_x"}, "STRIPE_API_KEY"),
        ({"STRIPE_API_BASE": "http://127.0.0.1:1"}, "STRIPE_API_KEY"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "AWS_ENDPOINT_URL"),
        ({"RATE_LIMIT_PER_MINUTE": "many"}, "RATE_LIMIT_PER_MINUTE"),
        ({"RATE_LIMIT_PER_HOUR": "0"}, "RATE_LIMIT_PER_HOUR"),
    ],
)
def test_senseless_environment(tmp_path: Path, env: dict[str, str], named: str) -> None:
    """A variable that makes no sense, or would touch real money, is refused by its name."""
    with _run(tmp_path, **env) as process:
        _, complaint = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert named in complaint
    assert "Traceback" not in complaint
