"""Child processes of the local environment."""

import os
import sys
from pathlib import Path

import pytest

from local import processes
from local.processes import Child, StartFailed, finish, start, stop, wait_until
from tests.e2e.support import descendants, eventually, is_alive


def _python(tmp_path: Path, program: str) -> Child:
    return start("step", [sys.executable, "-c", program], os.environ, tmp_path / "step.log", tmp_path / "step.out")


def test_finish_returns_standard_output_without_standard_error(tmp_path: Path) -> None:
    child = _python(tmp_path, "import sys; print('answer'); print('aside', file=sys.stderr)")
    assert finish(child) == "answer\n"
    assert child.log.read_text() == "aside\n"


def test_finish_failed_command_raises_with_exit_status_and_log(tmp_path: Path) -> None:
    child = _python(tmp_path, "raise SystemExit('the table is gone')")
    with pytest.raises(StartFailed, match=r"step ended with 1(.|\n)*the table is gone"):
        finish(child)


def test_wait_until_service_ends_raises(tmp_path: Path) -> None:
    child = _python(tmp_path, "raise SystemExit(3)")
    with pytest.raises(StartFailed, match="step ended with 3"):
        wait_until(lambda: False, child)


def test_stop_process_group_ignoring_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS_MAX", 0.1)
    program = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
time.sleep(60)
"""
    child = _python(tmp_path, program)
    started = {child.process.pid} | eventually(lambda: descendants(child.process.pid), bool)
    stop([child])
    eventually(lambda: {pid for pid in started if is_alive(pid)}, lambda alive: not alive)
