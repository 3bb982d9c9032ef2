"""Helpers of the end-to-end tests: API client, Stripe client, `billing` command and processes."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from cli.main import app
from local.environment import LocalEnvironment
from local.stack import ROOT

DEADLINE_SECONDS = 40.0
CLIENT = ROOT / "clients/typescript"
_POLL_SECONDS = 0.1


def run_command(cwd: Path, *command: str, **env: str) -> str:
    """Run a command with additional environment variables. Returns its output."""
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def eventually[T](read: Callable[[], T], condition: Callable[[T], bool]) -> T:
    """Call `read` until its value satisfies the condition. Fails after DEADLINE_SECONDS with the last value."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition(value := read()):
        assert time.monotonic() < deadline, f"still {value}"
        time.sleep(_POLL_SECONDS)
    return value


def billing(environment: LocalEnvironment, *arguments: str) -> dict[str, Any]:
    """Run a `billing` command in this process, which saves its start-up time. Returns its JSON output."""
    done = CliRunner().invoke(app, [*arguments, "--json"], env=dict(environment.env))
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@dataclass(frozen=True, slots=True)
class AccountClient:
    """API client with the secret key of one account."""

    account_id: str
    http: httpx.Client

    def status(self) -> dict[str, Any]:
        """Return the account's plan and subscription."""
        response = self.http.get("/v1/billing")
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def post(self, path: str, **body: str) -> httpx.Response:
        """Send a POST request with a JSON body."""
        return self.http.post(path, json=body)

    def checkout_url(self, tier: str = "pro") -> str:
        """Create a Checkout Session. Returns its URL."""
        response = self.post("/v1/billing/checkout", tier=tier)
        assert response.status_code == 200, response.text
        return str(response.json()["checkout_url"])

    def portal_url(self) -> str:
        """Create a portal session. Returns its URL."""
        response = self.post("/v1/billing/portal")
        assert response.status_code == 200, response.text
        return str(response.json()["portal_url"])


@dataclass(frozen=True, slots=True)
class StripeClient:
    """Client of Stripe's API and of the simulator's controls."""

    http: httpx.Client

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """Return an object or a list."""
        return self._read(self.http.get(path, params=parameters))

    def post(self, path: str, **parameters: str) -> dict[str, Any]:
        """Send a POST request."""
        return self._read(self.http.post(path, data=parameters))

    def delete(self, path: str) -> dict[str, Any]:
        """Send a DELETE request."""
        return self._read(self.http.delete(path))

    def control(self, path: str, **document: Any) -> dict[str, Any]:
        """Send a command to the simulator."""
        return self._read(self.http.post(f"/_simulator/{path}", json=document, timeout=DEADLINE_SECONDS))

    def attempts(self) -> list[dict[str, Any]]:
        """Return all delivery attempts."""
        return list(self.get("/_simulator/deliveries")["data"])

    def pay(self, checkout_url: str) -> str:
        """Pay a Checkout Session. Returns the subscription's id."""
        session_id = checkout_url.rsplit("/", 1)[1]
        return str(self.control(f"checkout/{session_id}", outcome="pay")["subscription"])

    def customers_of(self, account_id: str) -> list[dict[str, Any]]:
        """Return the account's Stripe customers."""
        customers = self.get("/v1/customers", limit="100")["data"]
        return [customer for customer in customers if customer["metadata"].get("account_id") == account_id]

    @staticmethod
    def _read(response: httpx.Response) -> dict[str, Any]:
        assert response.is_success, response.text
        document: dict[str, Any] = response.json()
        return document


def descendants(pid: int) -> set[int]:
    """Return the ids of all descendants of a process."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    found: set[int] = set()
    while grown := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= grown
    return found


def children(pid: int) -> set[int]:
    """Return the ids of the child processes of a process."""
    return {int(path.name) for path in Path("/proc").glob("[0-9]*") if _parent(path) == pid}


def is_alive(pid: int) -> bool:
    """Return True if a process runs. A zombie process does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
