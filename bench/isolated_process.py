"""Separate processes for measurements. A process corresponds to a Lambda execution environment."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from local.stack import ROOT

type LambdaHandler = Callable[[dict[str, Any], object], dict[str, Any]]

_PROCESSES = multiprocessing.get_context("spawn")


def run_isolated[**P, R](environment: Mapping[str, str], task: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run the task in a new process with only these environment variables. Returns its result."""
    with ProcessPoolExecutor(1, _PROCESSES, initializer=replace_environment, initargs=(environment,)) as pool:
        return pool.submit(task, *args, **kwargs).result()


def replace_environment(environment: Mapping[str, str]) -> None:
    """Replace this process's environment variables, and discard its standard output. Logs are still written."""
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def load_handler(function: str) -> LambdaHandler:
    """Import the handler of a folder in functions/ as Lambda does. A process can load only one handler."""
    sys.path.insert(0, str(ROOT / "functions" / function))
    from app import handler  # type: ignore[import-not-found]  # noqa: PLC0415 - found on the path just extended

    loaded: LambdaHandler = handler
    return loaded
