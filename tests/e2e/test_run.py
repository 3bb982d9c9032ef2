"""`make run`: messages for invalid configuration, and no remaining processes."""

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
    process = subprocess.Popen(  # noqa: S603 - our own command
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


def _wait_until_ended(pids: set[int]) -> None:
    eventually(lambda: {pid for pid in pids if is_alive(pid)}, lambda alive: not alive)


def test_run_sigint_while_serving_ends_all_processes(tmp_path: Path) -> None:
    with _run(tmp_path) as process:
        eventually((tmp_path / "run.json").exists, bool)
        started = descendants(process.pid)
        assert len(started) >= 3
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 0
        _wait_until_ended(started)
    assert not (tmp_path / "run.json").exists()
    assert (tmp_path / "logs/front.log").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_run_signal_during_startup_ends_all_processes(tmp_path: Path, number: signal.Signals) -> None:
    with _run(tmp_path) as process:
        started = eventually(lambda: descendants(process.pid), lambda pids: len(pids) >= 2)
        process.send_signal(number)
        process.wait(DEADLINE_SECONDS)
        _wait_until_ended(started)


@pytest.mark.parametrize("variable", ["PORT", "STRIPE_PORT"])
def test_run_port_in_use_fails_with_port_and_variable(tmp_path: Path, variable: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        started_at = time.monotonic()
        with _run(tmp_path, **{variable: str(port)}) as process:
            _, error = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert str(port) in error
    assert f"{variable}=" in error
    assert "Traceback" not in error
    assert time.monotonic() - started_at < 5


@pytest.mark.parametrize(
    ("env", "variable"),
    [
        ({"PORT": "eight thousand"}, "PORT"),
        ({"STRIPE_API_KEY": "sk_live_x"}, "STRIPE_API_KEY"),
        ({"STRIPE_API_BASE": "http://127.0.0.1:1"}, "STRIPE_API_KEY"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "AWS_ENDPOINT_URL"),
        ({"RATE_LIMIT_PER_MINUTE": "many"}, "RATE_LIMIT_PER_MINUTE"),
        ({"RATE_LIMIT_PER_HOUR": "0"}, "RATE_LIMIT_PER_HOUR"),
    ],
)
def test_run_invalid_variable_fails_with_its_name(tmp_path: Path, env: dict[str, str], variable: str) -> None:
    with _run(tmp_path, **env) as process:
        _, error = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert variable in error
    assert "Traceback" not in error
