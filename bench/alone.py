"""A process of its own for what is measured, as a Lambda environment is one."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from local.stack import ROOT

type LambdaHandler = Callable[[dict[str, Any], object], dict[str, Any]]

_PROCESSES = multiprocessing.get_context("spawn")


def run_alone[**P, R](environment: Mapping[str, str], task: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What the task returns in a new process that has this environment and no other."""
    with ProcessPoolExecutor(1, _PROCESSES, initializer=become, initargs=(environment,)) as pool:
        return pool.submit(task, *args, **kwargs).result()


def become(environment: Mapping[str, str]) -> None:
    """Take this environment for the process's own; what it logs is written, and read by nobody."""
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def load_handler(function: str) -> LambdaHandler:
    """The handler of a folder of functions/, imported as Lambda does it: a process has one."""
    sys.path.insert(0, str(ROOT / "functions" / function))
    from app import handler  # type: ignore[import-not-found]  # noqa: PLC0415 - as Lambda finds it

    loaded: LambdaHandler = handler
    return loaded
