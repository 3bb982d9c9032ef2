"""What the end-to-end tests do with a running world: ask its API as an account, and play Stripe's part."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from cli.main import app
from local.environment import LocalEnvironment

DEADLINE_SECONDS = 40.0
_POLL_SECONDS = 0.1


def eventually[T](look: Callable[[], T], wanted: Callable[[T], bool]) -> T:
    """What `look` shows once it is as wanted; fails with the last thing seen."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not wanted(seen := look()):
        assert time.monotonic() < deadline, f"still {seen}"
        time.sleep(_POLL_SECONDS)
    return seen


def billing(world: LocalEnvironment, *words: str) -> dict[str, Any]:
    """The answer of an operator's command, run in this process to save its start."""
    done = CliRunner().invoke(app, [*words, "--json"], env=dict(world.env))
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@dataclass(frozen=True, slots=True)
class AccountClient:
    """One account's server: calls the API with its key."""

    account_id: str
    http: httpx.Client

    def status(self) -> dict[str, Any]:
        """The account's plan and subscription."""
        response = self.http.get("/v1/billing")
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def post(self, path: str, **body: str) -> httpx.Response:
        """A POST with a JSON body."""
        return self.http.post(path, json=body)

    def checkout_url(self, tier: str = "pro") -> str:
        """The page on which the account can pay."""
        response = self.post("/v1/billing/checkout", tier=tier)
        assert response.status_code == 200, response.text
        return str(response.json()["checkout_url"])

    def portal_url(self) -> str:
        """The account's portal page."""
        response = self.post("/v1/billing/portal")
        assert response.status_code == 200, response.text
        return str(response.json()["portal_url"])


@dataclass(frozen=True, slots=True)
class StripeSide:
    """Stripe as its dashboard and its customers see it: the API, and the simulator's controls."""

    http: httpx.Client

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """An object or a list of the API."""
        return self._answer(self.http.get(path, params=parameters))

    def post(self, path: str, **parameters: str) -> dict[str, Any]:
        """A change through the API."""
        return self._answer(self.http.post(path, data=parameters))

    def delete(self, path: str) -> dict[str, Any]:
        """A deletion through the API."""
        return self._answer(self.http.delete(path))

    def control(self, path: str, **document: Any) -> dict[str, Any]:
        """A command to the simulator."""
        return self._answer(self.http.post(f"/_simulator/{path}", json=document, timeout=DEADLINE_SECONDS))

    def attempts(self) -> list[dict[str, Any]]:
        """Every attempt to deliver an event."""
        return list(self.get("/_simulator/deliveries")["data"])

    def pay(self, checkout_url: str) -> str:
        """Pay a checkout page as its customer would; returns the subscription's id."""
        session_id = checkout_url.rsplit("/", 1)[1]
        return str(self.control(f"checkout/{session_id}", outcome="pay")["subscription"])

    def customers_of(self, account_id: str) -> list[dict[str, Any]]:
        """The account's Stripe customers."""
        customers = self.get("/v1/customers", limit="100")["data"]
        return [customer for customer in customers if customer["metadata"].get("account_id") == account_id]

    @staticmethod
    def _answer(response: httpx.Response) -> dict[str, Any]:
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        return answer


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and they in turn."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    found: set[int] = set()
    while grown := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= grown
    return found


def children(pid: int) -> set[int]:
    """The processes that a process has started."""
    return {int(path.name) for path in Path("/proc").glob("[0-9]*") if _parent(path) == pid}


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
