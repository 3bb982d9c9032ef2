"""What the functions do is what their OpenAPI documents say, as far as schemathesis can find out."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from schemathesis.cli import schemathesis

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract
from local.stack import ROOT
from local.world import World
from tests.e2e.support import AccountClient, StripeSide, eventually

pytestmark = pytest.mark.stack

CONFIG = ROOT / "tests/e2e/schemathesis.toml"


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_the_functions_do_what_the_document_says(
    world: World, account: AccountClient, stripe_side: StripeSide, tmp_path: Path, contract: Contract
) -> None:
    """Requests that it allows are served, all others refused, and every answer is one that it describes."""
    subscribe_and_end(account, stripe_side)
    document = tmp_path / "openapi.json"
    served = account.http.get(contract.routes["openapi"].path.format(teamId=account.account_id))
    document.write_bytes(served.content)
    # From a file: the place where a document was found is left out of the run. In this process, to save its start.
    run = CliRunner().invoke(
        schemathesis,
        ["--config-file", str(CONFIG), "run", str(document), "--url", world.api_url, "--no-color"],
        env={"ACCOUNT_ID": account.account_id, "AUTHORIZATION": account.http.headers["Authorization"], "NO_PROXY": "*"},
    )
    assert run.exit_code == 0, run.output


def subscribe_and_end(account: AccountClient, stripe_side: StripeSide) -> None:
    """Give the account a history for the portal, and nothing that keeps it from checkout."""
    subscription_id = stripe_side.pay(account.checkout_url())
    eventually(account.status, lambda status: bool(status["plan"] == "pro"))
    stripe_side.delete(f"/v1/subscriptions/{subscription_id}")
    eventually(account.status, lambda status: bool(status["status"] == "canceled"))
