"""docs/reference/api.md: its endpoints, examples and error tables equal the contracts.

tests/e2e runs the page's commands. A new contract or native endpoint does not have to be on the page.
"""

import json
import re

import pytest

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract
from billing.api.endpoint import Endpoint
from billing.api.openapi import errors_by_status
from billing.api.operations import load_operation
from billing.domain.errors import MethodNotAllowed, RouteUnknown
from billing.domain.webhook_deliveries import DeliveryError
from billing.domain.webhook_endpoints import DisabledReason
from local.stack import ROOT

PAGE = (ROOT / "docs/reference/api.md").read_text()
ENDPOINT_ROW = re.compile(r"^\| `([A-Z]+ /\S*)` \|", re.MULTILINE)
ERROR_ROW = re.compile(r"^\| (\d{3}) \| `(\w+)` \|", re.MULTILINE)
SAMPLE_ROUTES = {json.loads(path.read_text()).get("routeKey") for path in ROOT.glob("events/*.json")}
WITHOUT_EXAMPLE = {"stripe_webhook", "openapi", "send_test_event", "redeliver"}
"""Operations whose response is not the same in every run, or that have no request of a caller."""

each_documented_contract = pytest.mark.parametrize(
    "contract",
    [each for each in CONTRACTS if f"\n## {each.name}\n" in PAGE],
    ids=lambda contract: contract.name,
)


def section_of(contract: Contract) -> str:
    """Return the page's section about a contract."""
    return PAGE.split(f"\n## {contract.name}\n")[1].split("\n## ")[0]


def has_example(contract: Contract, path: str) -> bool:
    """Return True if the section has a command with that path."""
    example = r"[\w$]+".join(re.escape(part) for part in re.split(r"\{\w+\}", path))
    return re.search(rf"\$API{example}[\"? ]", section_of(contract)) is not None


def test_overview_lists_the_documented_contracts() -> None:
    overview = PAGE.split("\n## Conventions\n")[0]
    listed = re.findall(r"^\| \[(\w+)\]", overview, re.MULTILINE)
    assert listed == [each.name for each in CONTRACTS if each.name in listed]
    assert all(f"\n## {name}\n" in PAGE for name in listed)


@each_documented_contract
def test_listed_endpoints_are_routes_with_an_example(contract: Contract) -> None:
    routes = {route.key: name for name, route in contract.routes.items()}
    for key in ENDPOINT_ROW.findall(section_of(contract)):
        assert key in routes
        assert routes[key] in WITHOUT_EXAMPLE or has_example(contract, key.split(" ")[1]), key


@each_documented_contract
def test_every_route_has_an_example_or_a_sample_event(contract: Contract) -> None:
    for name, route in contract.routes.items():
        assert name in WITHOUT_EXAMPLE or has_example(contract, route.path) or route.key in SAMPLE_ROUTES, route.key


@each_documented_contract
def test_error_table_lists_exactly_the_contracts_errors(contract: Contract) -> None:
    possible = {RouteUnknown, MethodNotAllowed}
    for name, route in contract.routes.items():
        by_status = errors_by_status(Endpoint(contract, route, load_operation(name)))
        possible |= {error for errors in by_status.values() for error in errors}
    mappings = [contract.error_mapping(error) for error in possible]
    listed = {(int(status), code) for status, code in ERROR_ROW.findall(section_of(contract))}
    assert listed == {(mapping.status, mapping.code) for mapping in mappings}


def test_webhook_tables_list_every_error_and_reason() -> None:
    for heading, values in (("`error` | cause", DeliveryError), ("`disabled_reason` | cause", DisabledReason)):
        rows = PAGE.split(f"| {heading} |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
        listed = [value for row in rows for value in re.findall(r"`(\w+)`", row.split("|")[1])]
        assert sorted(listed) == sorted(values)
