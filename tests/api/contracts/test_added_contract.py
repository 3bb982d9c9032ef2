"""A contract that exists only here: every part of a contract is data, so it is served without code."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import billing.api.pipeline
from billing.adapters.repository import KeyRecord
from billing.api.authentication import KeyKind, digest_of, new_key
from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract, Field, RequestFields, ResponseFields, Route
from billing.api.contracts.error_table import ErrorRow
from billing.domain import errors
from billing.domain.credentials import CredentialKind
from tests.functions import support
from tests.functions.events import subscription_event
from tests.functions.support import FunctionHarness, Response

pytestmark = pytest.mark.engine

BASE = "/shops/{shop}/money"
SHOPS = Contract(
    name="shops",
    base_path=BASE,
    account_parameter="shop",
    case=str.capitalize,
    credentials=frozenset({CredentialKind.SECRET_KEY, CredentialKind.PUBLISHABLE_KEY}),
    routes={
        "subscription": Route(
            "GET",
            f"{BASE}/tariff",
            response=ResponseFields(
                omit=("current_period_end", "cancel_at_period_end"),
                rename={"plan": "Tariff", "member_count": "Seats"},
                constants={"Version": 6},
            ),
            not_found_if_null="status",
        ),
        "checkout": Route(
            "POST",
            f"{BASE}/buy",
            request=RequestFields(
                omit=("price_id", "cancel_url"),
                rename={"tier": "Tariff", "quantity": "Seats", "success_url": "BackTo"},
                required=("tier", "quantity"),
            ),
        ),
        "usage": Route(
            "GET",
            f"{BASE}/used",
            response=ResponseFields(
                omit=("plan", "period_start", "period_end", "usage.limit", "usage.remaining"),
                rename={"usage.metric": "What", "usage.used": "HowMuch"},
            ),
        ),
        "plans": Route("GET", f"{BASE}/tariffs"),
    },
    envelope={"Fine": Field("data")},
    error_envelope={"Oops": {"Id": Field("request_id"), "Kind": Field("code"), "Why": Field("details", optional=True)}},
    errors={
        errors.RequestInvalid: ErrorRow(code="Wrong"),
        errors.Forbidden: ErrorRow(418, "Rejected"),
        errors.SubscriptionExists: ErrorRow(418, "Rejected"),
        errors.MethodNotAllowed: ErrorRow(code="Method"),
    },
)


@pytest.fixture(autouse=True)
def _served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(billing.api.pipeline, "CONTRACTS", (*CONTRACTS, SHOPS))
    routes = {route.key: operation for operation, route in SHOPS.routes.items()}
    monkeypatch.setattr(support, "FUNCTIONS", support.FUNCTIONS | routes)


def request(deployment: FunctionHarness, method: str, path: str, body: object = None, shop: str = "acme") -> Response:
    """Send a request of the contract with acme's secret key."""
    url_path = BASE.format(shop=shop) + path
    return deployment.authorized(method, url_path, body, route=f"{method} {BASE}{path}", parameters={"shop": shop})


def oops(kind: str, why: Any = None) -> Any:
    """Return an error body of the contract."""
    return {"Oops": {"Id": "request-1", "Kind": kind} | ({"Why": why} if why else {})}


def test_response_has_the_contracts_names_constants_and_envelope(deployment: FunctionHarness) -> None:
    deployment.deliver(subscription_event())
    tariff = request(deployment, "GET", "/tariff").body
    assert tariff == {"Fine": {"Version": 6, "Tariff": "pro", "Status": "active", "Seats": 1}}
    assert {"What": "api_calls", "HowMuch": 0} in request(deployment, "GET", "/used").body["Fine"]["Usage"]


def test_null_field_returns_404_if_the_route_says_so(deployment: FunctionHarness) -> None:
    response = request(deployment, "GET", "/tariff")
    assert (response.status, response.body) == (404, oops("NOT_FOUND"))


def test_request_problems_have_the_contracts_field_names(deployment: FunctionHarness) -> None:
    why = [{"path": "Shop", "message": "is not a known field"}, {"path": "Tariff", "message": "is required"}]
    response = request(deployment, "POST", "/buy", {"Shop": "x", "Seats": 1})
    assert (response.status, response.body) == (400, oops("Wrong", why))
    why = [{"path": "Tariff", "message": "must be one of: pro, team"}]
    assert request(deployment, "POST", "/buy", {"Tariff": "gold", "Seats": 1}).body == oops("Wrong", why)


def test_error_has_the_contracts_row_or_else_the_default_row(deployment: FunctionHarness) -> None:
    assert request(deployment, "GET", "/tariff", shop="globex").body == oops("Rejected")
    assert deployment.call("GET", "/shops/acme/money/tariff", route=f"GET {BASE}/tariff").body == oops("UNAUTHORIZED")
    deployment.deliver(subscription_event())
    response = request(deployment, "POST", "/buy", {"Tariff": "team", "Seats": 2})
    assert (response.status, response.body) == (418, oops("Rejected"))


def test_publishable_key_is_accepted_only_where_operation_and_contract_accept_it(deployment: FunctionHarness) -> None:
    key = new_key(KeyKind.PUBLISHABLE, livemode=False)
    record = KeyRecord("key_9", "acme", "publishable", datetime.now(UTC) - timedelta(days=1), key[-4:])
    deployment.repository.create_key(digest_of(key), record)
    browser = FunctionHarness(deployment.table, deployment.repository, key)
    assert request(browser, "GET", "/tariffs").status == 200
    assert request(browser, "GET", "/tariff").body == oops("Rejected")


def test_unknown_path_and_method_under_the_base_path_have_the_contracts_envelope(deployment: FunctionHarness) -> None:
    unknown = deployment.call("GET", "/shops/acme/money/nothing", route="$default")
    assert (unknown.status, unknown.body) == (404, oops("NOT_FOUND"))
    wrong_method = deployment.call("DELETE", "/shops/acme/money/buy", route="$default")
    assert (wrong_method.status, wrong_method.headers["allow"], wrong_method.body) == (405, "POST", oops("Method"))
