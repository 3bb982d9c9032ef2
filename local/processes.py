"""Child processes that end with the local environment, also if it is killed."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS_MAX = 5.0
START_SECONDS_MAX = 60.0
_POLL_SECONDS = 0.05
_LOG_LINES_SHOWN = 25

_TERMINATION_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
# Loaded before any fork: between fork and exec, loading a library is not safe.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartFailed(Exception):
    """A part of the local environment did not start. The message contains the reason and a remedy."""


@dataclass(frozen=True, slots=True)
class Child:
    """A child process in its own process group.

    Attributes:
        name: Name for messages.
        command: Command and arguments.
        env: Environment variables.
        process: The process.
        output: File of standard output; the same file as `log` unless `start` got another one.
        log: File of standard error.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    process: subprocess.Popen[bytes]
    output: Path
    log: Path

    def failure(self) -> StartFailed:
        """Return an error with the exit status and the last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        title = f"{self.name} ended with {self.process.returncode}. Last lines of {self.log}:"
        return StartFailed("\n".join([title, *(f"  {line}" for line in lines)]))


def start(
    name: str, command: Sequence[str | Path], env: Mapping[str, str], log: Path, output: Path | None = None
) -> Child:
    """Start a command in its own session. Ctrl-C does not reach it: its parent ends all children in order."""
    arguments = tuple(map(str, command))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as log_file, output.open("wb") if output else nullcontext(log_file) as output_file:
        process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            arguments,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output_file,
            stderr=log_file,
            start_new_session=True,
            preexec_fn=_die_with_parent if _libc else None,  # noqa: PLW1509 - calls one function loaded beforehand
        )
    return Child(name, arguments, env, process, output or log, log)


def finish(child: Child) -> str:
    """Wait for a command and return its output. Raises StartFailed if its exit status is not 0."""
    if child.process.wait() != 0:
        raise child.failure()
    return child.output.read_text()


def wait_until(ready: Callable[[], bool], child: Child) -> None:
    """Wait until a service is ready. Raises StartFailed if it ends or needs more than START_SECONDS_MAX."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while not ready():
        if child.process.poll() is not None:
            raise child.failure()
        if time.monotonic() > deadline:
            raise StartFailed(f"{child.name} was not ready within {START_SECONDS_MAX:.0f} s. See {child.log}.")
        time.sleep(_POLL_SECONDS)


def stop(children: Iterable[Child]) -> None:
    """Terminate the process groups of all children, and kill them after STOP_SECONDS_MAX."""
    children = list(children)
    with _signals_ignored():
        for child in children:
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
            _signal_group(child, signal.SIGKILL)
            child.process.wait()


def _signal_group(child: Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Ignore termination signals, so that a second Ctrl-C leaves no process behind.

    Python delivers signals to the main thread only. In other threads this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in _TERMINATION_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    """Let Linux kill the child if its parent dies, even by SIGKILL. Other systems have no such option."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
