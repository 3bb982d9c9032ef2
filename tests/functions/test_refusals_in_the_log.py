"""What the log tells an operator of refused requests, and never the credential itself."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.adapters.repository import KeyRecord
from billing.api.authentication import KeyKind, digest_of, new_key
from tests.functions.conftest import Deployment

pytestmark = pytest.mark.engine


def last_line(printed: Callable[[], str]) -> dict[str, Any]:
    """The log's last entry, as far as it is about the request."""
    entry = json.loads(printed().strip().splitlines()[-1])
    return {name: entry[name] for name in ("status", "error", "reason", "account_id", "credential") if entry.get(name)}


def test_a_credential_that_does_not_count_says_why(deployment: Deployment, printed: Callable[[], str]) -> None:
    """The caller is told nothing; the operator, what to look at."""
    revoked = new_key(KeyKind.SECRET, livemode=False)
    now = datetime.now(UTC)
    deployment.repository.create_key(digest_of(revoked), KeyRecord("key_2", "acme", "secret", now, "aaaa", revoked=now))
    for authorization, reason in (
        (None, "no bearer credential"),
        (f"Bearer {revoked}", "key_2, which is revoked"),
        (f"Bearer {new_key(KeyKind.SECRET, livemode=False)}", "an unknown key"),
        (f"Bearer {new_key(KeyKind.SECRET, livemode=True)}", "a key of the other mode"),
    ):
        headers = {"Authorization": authorization} if authorization else {}
        assert deployment.call("GET", "/v1/billing", headers=headers).status == 401
        assert last_line(printed) == {"status": 401, "error": "Unauthenticated", "reason": reason}


def test_a_request_is_told_with_its_key(deployment: Deployment, printed: Callable[[], str]) -> None:
    """Which key it was, so that a leak can be traced; and what it was refused for."""
    deployment.authorized("GET", "/v1/billing")
    who = {"account_id": "acme", "credential": "key:key_1"}
    assert last_line(printed) == {"status": 200, **who}
    deployment.authorized("POST", "/v1/billing/checkout", {"tier": "gold"})
    assert last_line(printed) == {"status": 400, "error": "RequestInvalid", **who}
    assert deployment.key not in printed()
