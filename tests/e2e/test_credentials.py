"""The credentials that `make run` gives out, each against the running API."""

import json

import httpx
import pytest

from local.environment import ACCOUNTS, LocalEnvironment
from tests.e2e.support import DEADLINE_SECONDS, AccountClient, billing

pytestmark = pytest.mark.stack

CREDENTIALS = ("secret_key", "publishable_key", "session_token")


def ask(world: LocalEnvironment, credential: str, method: str = "GET", path: str = "/v1/billing") -> httpx.Response:
    """A request with a credential; a POST carries what a checkout needs."""
    headers = {"Authorization": f"Bearer {credential}"}
    body = {"tier": "pro"} if method == "POST" else None
    url = f"{world.api_url}{path}"
    return httpx.request(method, url, headers=headers, json=body, timeout=DEADLINE_SECONDS, trust_env=False)


def test_run_json_has_every_credential_of_both_accounts(world: LocalEnvironment) -> None:
    """Programs find them under these names, and the kinds are told apart by their looks."""
    accounts = json.loads((world.state_dir / "run.json").read_text())["accounts"]
    assert set(accounts) == set(ACCOUNTS)
    for credentials in accounts.values():
        assert list(credentials) == list(CREDENTIALS)
        assert credentials["secret_key"].startswith("sk_test_")
        assert credentials["publishable_key"].startswith("pk_test_")
        assert credentials["session_token"].count(".") == 2


@pytest.mark.parametrize("account_id", ACCOUNTS)
def test_each_kind_opens_what_it_is_for(world: LocalEnvironment, account_id: str) -> None:
    """Key and session token read the account, a publishable key the plans alone."""
    own = world.accounts[account_id]
    statuses = {name: ask(world, own[name]).status_code for name in CREDENTIALS}
    assert statuses == {"secret_key": 200, "publishable_key": 403, "session_token": 200}
    assert [ask(world, own[name], path="/v1/billing/plans").status_code for name in CREDENTIALS] == [200] * 3


def test_who_may_pay_is_the_roles_word(world: LocalEnvironment, account: AccountClient) -> None:
    """The operator's token for a member opens no checkout; the one for an owner does."""
    member, owner = (
        billing(world, "sessions", "token", account.account_id, "--user", "user_2", "--role", role)["token"]
        for role in ("member", "owner")
    )
    assert ask(world, member).status_code == 200
    assert ask(world, member, "POST", "/v1/billing/checkout").status_code == 403
    assert ask(world, owner, "POST", "/v1/billing/checkout").status_code == 200


def test_what_was_altered_is_nobodys(world: LocalEnvironment) -> None:
    """One character more or less, and nothing tells why."""
    own = world.accounts["globex"]
    for credential in own.values():
        for altered in (credential[:-1], f"{credential}a", credential.swapcase()):
            response = ask(world, altered)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert response.json()["error"]["message"] == "Missing, invalid or expired credential"
