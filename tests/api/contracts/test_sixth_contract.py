"""Another API document is another file of data: a made-up one is served without a line of code."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import billing.api.operation
from billing.adapters.repository import KeyRecord
from billing.api.authentication import KeyKind, digest_of, new_key
from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract, ErrorMapping, Field, ListField, Operation, Route
from billing.domain import errors
from billing.domain.credentials import ANY_CREDENTIAL, SECRET_KEY_ONLY
from tests.functions import support
from tests.functions.events import subscription_event
from tests.functions.support import FunctionHarness as Deployment
from tests.functions.support import Response as Answer

pytestmark = pytest.mark.engine

BASE = "/shops/{shop}/money"
SIXTH = Contract(
    name="shops",
    base_path=BASE,
    account_parameter="shop",
    routes={
        Operation.SUBSCRIPTION: Route(
            "GET",
            f"{BASE}/tariff",
            response={"Tariff": Field("plan"), "Seats": Field("member_count"), "Version": 6},
            not_found_if_null="status",
            credentials=SECRET_KEY_ONLY,
        ),
        Operation.CHECKOUT: Route(
            "POST",
            f"{BASE}/buy",
            input={"Tariff": "tier", "Seats": "quantity", "BackTo": "success_url"},
            required=("Tariff", "Seats"),
            response=Field("url"),
        ),
        Operation.USAGE: Route(
            "GET",
            f"{BASE}/used",
            credentials=ANY_CREDENTIAL,
            response=ListField("usage", {"What": Field("metric"), "HowMuch": Field("used")}),
        ),
    },
    error={"Oops": {"Id": Field("request_id"), "Kind": Field("code"), "Why": Field("details", optional=True)}},
    error_mappings={
        errors.RequestRefused: ErrorMapping(418, "Refused"),
        errors.RequestInvalid: ErrorMapping(400, "Wrong"),
        errors.NeverSubscribed: ErrorMapping(404, "Nothing"),
        errors.TryAgainLater: ErrorMapping(503, "Later"),
    },
    internal_error=ErrorMapping(500, "Broken"),
)


@pytest.fixture(autouse=True)
def _served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(billing.api.operation, "CONTRACTS", (*CONTRACTS, SIXTH))
    routes = {route.key: operation for operation, route in SIXTH.routes.items()}
    monkeypatch.setattr(support, "FUNCTIONS", support.FUNCTIONS | routes)


def ask(deployment: Deployment, method: str, place: str, body: object = None, shop: str = "acme") -> Answer:
    """A request to the sixth contract, with acme's key."""
    path = BASE.format(shop=shop) + place
    return deployment.authorized(method, path, body, route=f"{method} {BASE}{place}", parameters={"shop": shop})


def oops(kind: str, why: Any = None) -> Any:
    """Its envelope."""
    return {"Oops": {"Id": "request-1", "Kind": kind} | ({"Why": why} if why else {})}


def test_it_answers_in_its_own_shape(deployment: Deployment) -> None:
    """Facts, constants and lists, where its data says."""
    assert (ask(deployment, "GET", "/tariff").status, ask(deployment, "GET", "/tariff").body) == (404, oops("Nothing"))
    deployment.deliver(subscription_event())
    assert ask(deployment, "GET", "/tariff").body == {"Tariff": "pro", "Seats": 1, "Version": 6}
    used = ask(deployment, "GET", "/used").body
    assert {"What": "api_calls", "HowMuch": 0} in used


def test_it_refuses_in_its_own_words(deployment: Deployment) -> None:
    """Its names of fields, its codes; what it has no code for is what the error derives from."""
    why = [{"path": "Shop", "message": "is not a known field"}, {"path": "Tariff", "message": "is required"}]
    answer = ask(deployment, "POST", "/buy", {"Shop": "x", "Seats": 1})
    assert (answer.status, answer.body) == (400, oops("Wrong", why))
    why = [{"path": "Tariff", "message": "must be one of: pro, team"}]
    assert ask(deployment, "POST", "/buy", {"Tariff": "gold", "Seats": 1}).body == oops("Wrong", why)
    assert ask(deployment, "GET", "/tariff", shop="globex").status == 418
    deployment.deliver(subscription_event())
    assert ask(deployment, "POST", "/buy", {"Tariff": "team", "Seats": 2}).body == oops("Refused")


def test_it_names_the_credentials_that_it_takes(deployment: Deployment) -> None:
    """Route by route."""
    key = new_key(KeyKind.PUBLISHABLE, livemode=False)
    record = KeyRecord("key_9", "acme", "publishable", datetime.now(UTC) - timedelta(days=1), key[-4:])
    deployment.repository.create_key(digest_of(key), record)
    browser = Deployment(deployment.table, deployment.repository, key)
    assert ask(browser, "GET", "/used").status == 200
    assert ask(browser, "GET", "/tariff").status == 418


def test_what_is_beside_its_routes_is_told_in_its_envelope(deployment: Deployment) -> None:
    """Unknown paths and methods under its base path."""
    unknown = deployment.call("GET", "/shops/acme/money/nothing", route="$default")
    assert (unknown.status, unknown.body) == (418, oops("Refused"))
    wrong_method = deployment.call("DELETE", "/shops/acme/money/buy", route="$default")
    assert (wrong_method.status, wrong_method.headers["allow"]) == (418, "POST")
