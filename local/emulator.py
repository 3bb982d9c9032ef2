"""The AWS emulator as a child process: ministack, in an environment of its own."""

import os
from collections.abc import Mapping
from pathlib import Path

import httpx

from local.processes import Child, wait_until
from local.stack import ROOT

COMMAND = (ROOT / ".tools/emulator/bin/ministack",)


def environment(port: int, scratch: Path) -> Mapping[str, str]:
    """What the emulator runs with. It hands it on to functions, so it holds nothing that AWS would not give them."""
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
    """Return once the emulator answers. Raises StartFailed."""
    wait_until(lambda: _answers(f"{url}/_ministack/health"), emulator)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False
