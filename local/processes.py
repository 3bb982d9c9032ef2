"""Child processes that never outlive the local world, however it ends."""

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

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
# Loaded before any fork: between fork and exec only what is already there may be called.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartFailed(Exception):
    """A part of the local world did not come up; the message says which and what to do about it."""


@dataclass(frozen=True, slots=True)
class Child:
    """A child process in a process group of its own: its answer in `output`, the rest in `log`, which may be one."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    process: subprocess.Popen[bytes]
    output: Path
    log: Path

    def failed(self) -> StartFailed:
        """The failure of this child, told with the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        ending = f"ended with {self.process.returncode}"
        return StartFailed(
            "\n".join([f"{self.name} {ending}. The end of {self.log}:", *(f"  {line}" for line in lines)])
        )


def start(
    name: str, command: Sequence[str | Path], env: Mapping[str, str], log: Path, output: Path | None = None
) -> Child:
    """Start a command. Ctrl-C in a terminal does not reach it: its parent decides in which order things end."""
    words = tuple(str(word) for word in command)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors, output.open("wb") if output else nullcontext(errors) as answers:
        process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            words,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=answers,
            stderr=errors,
            start_new_session=True,
            preexec_fn=_die_with_parent if _libc else None,  # noqa: PLW1509 - calls one function loaded beforehand
        )
    return Child(name, words, env, process, output or log, log)


def finish(child: Child) -> str:
    """Wait for a command to end and return its answer. Raises StartFailed when its exit status is not 0."""
    if child.process.wait() != 0:
        raise child.failed()
    return child.output.read_text()


def wait_until(ready: Callable[[], bool], child: Child) -> None:
    """Wait until a service answers. Raises StartFailed when it ends or takes longer than START_SECONDS_MAX."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while not ready():
        if child.process.poll() is not None:
            raise child.failed()
        if time.monotonic() > deadline:
            raise StartFailed(f"{child.name} did not answer within {START_SECONDS_MAX:.0f} s; see {child.log}")
        time.sleep(_POLL_SECONDS)


def stop(children: Iterable[Child]) -> None:
    """End children and whatever they started: asked first, all at once, and killed after STOP_SECONDS_MAX."""
    children = list(children)
    with _uninterrupted():
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
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not leave processes behind. Signals belong to the main thread; elsewhere none arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    """Linux kills the child when its parent dies, even by SIGKILL. Elsewhere only an orderly end cleans up."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
