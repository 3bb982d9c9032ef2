"""docs/reference/api.md lists every error of every contract, and no other. Its curls are run by tests/e2e."""

import re

import pytest

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract
from local.stack import ROOT

PAGE = (ROOT / "docs/reference/api.md").read_text()


def section_of(contract: Contract) -> str:
    """The page's part on a contract."""
    return PAGE.split(f"\n## {contract.name}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda each: each.name)
def test_every_error_is_listed(contract: Contract) -> None:
    """Status and code, as the contract's data has them."""
    listed = {
        (int(row[0]), row[1]) for row in re.findall(r"^\| (\d{3}) \| `(\w+)` \|", section_of(contract), re.MULTILINE)
    }
    told = {(each.status, each.code) for each in [*contract.error_mappings.values(), contract.internal_error]}
    assert listed == told


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda each: each.name)
def test_every_route_has_an_example(contract: Contract) -> None:
    """But Stripe's own way in, and the OpenAPI documents."""
    section = section_of(contract)
    for name, route in contract.routes.items():
        if name not in {"stripe_webhook", "openapi"}:
            path = re.sub(r"\{\w+\}", "acme", route.path)
            assert re.search(rf"\$API{re.escape(path)}[\"? ]", section), route.key
