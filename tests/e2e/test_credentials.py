"""Credentials of `make run`, used with the running API."""

import json

import httpx
import pytest

from local.environment import ACCOUNTS, LocalEnvironment
from tests.e2e.support import DEADLINE_SECONDS, AccountClient, billing

pytestmark = pytest.mark.stack

CREDENTIALS = ("secret_key", "publishable_key", "session_token")


def send_request(
    environment: LocalEnvironment, credential: str, method: str = "GET", path: str = "/v1/billing"
) -> httpx.Response:
    """Send a request with a credential. A POST has the body of a checkout request."""
    headers = {"Authorization": f"Bearer {credential}"}
    body = {"tier": "pro"} if method == "POST" else None
    url = f"{environment.api_url}{path}"
    return httpx.request(method, url, headers=headers, json=body, timeout=DEADLINE_SECONDS, trust_env=False)


def test_run_json_contains_all_credentials_of_both_accounts(environment: LocalEnvironment) -> None:
    accounts = json.loads((environment.state_dir / "run.json").read_text())["accounts"]
    assert set(accounts) == set(ACCOUNTS)
    for credentials in accounts.values():
        assert list(credentials) == list(CREDENTIALS)
        assert credentials["secret_key"].startswith("sk_test_")
        assert credentials["publishable_key"].startswith("pk_test_")
        assert credentials["session_token"].count(".") == 2


@pytest.mark.parametrize("account_id", ACCOUNTS)
def test_credential_kind_determines_accessible_operations(environment: LocalEnvironment, account_id: str) -> None:
    own = environment.accounts[account_id]
    statuses = {name: send_request(environment, own[name]).status_code for name in CREDENTIALS}
    assert statuses == {"secret_key": 200, "publishable_key": 403, "session_token": 200}
    assert [send_request(environment, own[name], path="/v1/billing/plans").status_code for name in CREDENTIALS] == [
        200
    ] * 3


def test_checkout_session_token_of_member_returns_403(environment: LocalEnvironment, account: AccountClient) -> None:
    member, owner = (
        billing(environment, "sessions", "token", account.account_id, "--user", "user_2", "--role", role)["token"]
        for role in ("member", "owner")
    )
    assert send_request(environment, member).status_code == 200
    assert send_request(environment, member, "POST", "/v1/billing/checkout").status_code == 403
    assert send_request(environment, owner, "POST", "/v1/billing/checkout").status_code == 200


def test_altered_credential_returns_401(environment: LocalEnvironment) -> None:
    own = environment.accounts["globex"]
    for credential in own.values():
        for altered in (credential[:-1], f"{credential}a", credential.swapcase()):
            response = send_request(environment, altered)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert response.json()["error"]["message"] == "Missing, invalid or expired credential"
