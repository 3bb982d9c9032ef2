"""Child processes of the local world: told apart when they fail, and gone when their parent says so."""

import os
import sys
from pathlib import Path

import pytest

from local import processes
from local.processes import Child, StartFailed, finish, start, stop, wait_until
from tests.e2e.support import descendants, eventually, is_alive


def _python(tmp_path: Path, program: str) -> Child:
    return start("step", [sys.executable, "-c", program], os.environ, tmp_path / "step.log", tmp_path / "step.out")


def test_answer_apart_from_complaints(tmp_path: Path) -> None:
    """A command's answer is what it prints, without what it says on the side."""
    child = _python(tmp_path, "import sys; print('answer'); print('aside', file=sys.stderr)")
    assert finish(child) == "answer\n"
    assert child.log.read_text() == "aside\n"


def test_failed_step(tmp_path: Path) -> None:
    """A command that fails is named, with its exit status and what it said last."""
    child = _python(tmp_path, "raise SystemExit('the table is gone')")
    with pytest.raises(StartFailed, match=r"step ended with 1(.|\n)*the table is gone"):
        finish(child)


def test_service_that_ends(tmp_path: Path) -> None:
    """A service that ends instead of answering is not waited for."""
    child = _python(tmp_path, "raise SystemExit(3)")
    with pytest.raises(StartFailed, match="step ended with 3"):
        wait_until(lambda: False, child)


def test_stop_takes_the_whole_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping a service ends what it started too, also when both do not care for SIGTERM."""
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
