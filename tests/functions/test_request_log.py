"""Log entries of requests: enough for operators, and never the credential itself."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.adapters.repository import KeyRecord
from billing.api.authentication import KeyKind, digest_of, new_key
from tests.functions.support import FunctionHarness

pytestmark = pytest.mark.engine


def last_line(printed: Callable[[], str]) -> dict[str, Any]:
    """Return the fields of the last log entry that are about the request."""
    entry = json.loads(printed().strip().splitlines()[-1])
    return {name: entry[name] for name in ("status", "error", "reason", "account_id", "credential") if entry.get(name)}


def test_log_of_a_rejected_credential_contains_the_reason(
    deployment: FunctionHarness, printed: Callable[[], str]
) -> None:
    """Operators see the reason; callers do not."""
    revoked = new_key(KeyKind.SECRET, livemode=False)
    now = datetime.now(UTC)
    deployment.repository.create_key(digest_of(revoked), KeyRecord("key_2", "acme", "secret", now, "aaaa", revoked=now))
    for authorization, reason in (
        (None, "no bearer credential"),
        (f"Bearer {revoked}", "revoked key key_2"),
        (f"Bearer {new_key(KeyKind.SECRET, livemode=False)}", "unknown key"),
        (f"Bearer {new_key(KeyKind.SECRET, livemode=True)}", "key of the other mode"),
    ):
        headers = {"Authorization": authorization} if authorization else {}
        assert deployment.call("GET", "/v1/billing", headers=headers).status == 401
        assert last_line(printed) == {"status": 401, "error": "Unauthenticated", "reason": reason}


def test_log_of_a_request_contains_account_and_key_id(deployment: FunctionHarness, printed: Callable[[], str]) -> None:
    """The key's id makes a leak traceable."""
    deployment.authorized("GET", "/v1/billing")
    caller = {"account_id": "acme", "credential": "key:key_1"}
    assert last_line(printed) == {"status": 200, **caller}
    deployment.authorized("POST", "/v1/billing/checkout", {"tier": "gold"})
    assert last_line(printed) == {"status": 400, "error": "RequestInvalid", **caller}
    assert deployment.key not in printed()
