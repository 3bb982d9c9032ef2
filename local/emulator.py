"""AWS emulator (ministack) as a child process with its own virtual environment."""

import os
from collections.abc import Mapping
from pathlib import Path

import httpx

from local.processes import Child, wait_until
from local.stack import ROOT

COMMAND = (ROOT / ".tools/emulator/bin/ministack",)


def environment(port: int, scratch: Path) -> Mapping[str, str]:
    """Return the emulator's environment variables.

    The emulator passes them on to functions. They therefore contain only what Lambda would set, and its own settings.
    """
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "STATE_DIR": str(scratch),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "LAMBDA_EXECUTOR": "local",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }


def wait_until_healthy(url: str, emulator: Child) -> None:
    """Wait until the emulator's health check succeeds. Raises StartFailed."""
    wait_until(lambda: _is_healthy(f"{url}/_ministack/health"), emulator)


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False
