"""`Idempotency-Key` header on POST requests: one effect per key, and the error body of each contract."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe

from stripe_simulator import Simulator
from tests.api.contracts.examples import PORTAL, REFERENCE, without_timestamp
from tests.functions.events import event, subscription
from tests.functions.stripe_support import clear_faults, inject_fault
from tests.functions.support import FunctionHarness, Response

pytestmark = pytest.mark.engine

CHECKOUT = "/v1/billing/checkout"
PRO, TEAM = {"tier": "pro"}, {"tier": "team"}
REUSED_MESSAGE = "This idempotency key was used with another request body; use a new key"
MALFORMED_MESSAGE = "must be 1 to 255 visible ASCII characters"


def post_with_key(deployment: FunctionHarness, key: str, body: object, path: str = CHECKOUT) -> Response:
    """Send a POST request with an `Idempotency-Key` header."""
    return deployment.authorized("POST", path, body, more_headers={"Idempotency-Key": key})


def add_ended_subscription(deployment: FunctionHarness) -> None:
    """Give acme a Stripe customer and a canceled subscription."""
    deployment.authorized("POST", CHECKOUT, PRO)
    customer = deployment.repository.load_account("acme").profile.customer_id
    deployment.deliver(event("customer.subscription.deleted", subscription(customer=customer, status="canceled")))


@pytest.mark.usefixtures("stripe_client")
def test_portal_repeated_key_returns_the_first_response(deployment: FunctionHarness) -> None:
    """With another key, Stripe creates another portal session."""
    add_ended_subscription(deployment)
    path = "/v1/billing/portal"
    first, again, other = (post_with_key(deployment, key, None, path) for key in ("k1", "k1", "k2"))
    assert (again.status, again.body) == (200, first.body)
    assert other.body != first.body
    assert [each.headers.get("idempotent-replayed") for each in (first, again, other)] == [None, "true", None]


@pytest.mark.usefixtures("stripe_client")
def test_key_on_another_route_starts_a_new_request(deployment: FunctionHarness) -> None:
    add_ended_subscription(deployment)
    first = post_with_key(deployment, "k1", None, "/v1/billing/portal")
    on_another_route = post_with_key(deployment, "k1", {"returnUrl": "/other"}, "/api/billing/portal")
    assert (on_another_route.status, "idempotent-replayed" in on_another_route.headers) == (200, False)
    assert on_another_route.body["data"]["url"] != first.body["portal_url"]


@pytest.mark.usefixtures("stripe_client")
def test_repeated_key_with_reordered_fields_returns_200(deployment: FunctionHarness) -> None:
    bodies = [{"tier": "team", "quantity": 2}, {"quantity": 2, "tier": "team"}]
    assert [post_with_key(deployment, "k1", body).status for body in bodies] == [200, 200]


@pytest.mark.usefixtures("stripe_client")
def test_repeated_key_with_another_body_returns_422(deployment: FunctionHarness) -> None:
    """The stored response does not change."""
    first = post_with_key(deployment, "k1", PRO)
    response = post_with_key(deployment, "k1", TEAM)
    assert (response.status, response.body) == (
        422,
        {"error": {"code": "IDEMPOTENCY_KEY_REUSE", "message": REUSED_MESSAGE}},
    )
    assert post_with_key(deployment, "k1", PRO).body == first.body


def test_repeated_key_after_a_stripe_failure_runs_again(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    inject_fault(simulator, "status:500")
    assert post_with_key(deployment, "k1", PRO).status == 503
    clear_faults(simulator)
    response = post_with_key(deployment, "k1", PRO)
    assert (response.status, "idempotent-replayed" in response.headers) == (200, False)
    assert len(stripe_client.v1.checkout.sessions.list({"customer": customer_id(deployment)}).data) == 1


def test_twenty_concurrent_requests_with_one_key_create_one_session(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """Each request gets the session's URL, or 409 while the first one is running."""
    deployment.authorized("GET", "/v1/billing")
    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(lambda _: post_with_key(deployment, "k1", PRO), range(20)))
    pages = {response.body["checkout_url"] for response in responses if response.status == 200}
    waiting = [response for response in responses if response.status == 409]
    assert len(pages) == 1
    assert len(waiting) + sum(response.status == 200 for response in responses) == 20
    assert all(response.body["error"]["code"] == "IDEMPOTENCY_KEY_REUSE" for response in waiting)
    assert all(response.headers["retry-after"] == "1" for response in waiting)
    assert len(stripe_client.v1.checkout.sessions.list({"customer": customer_id(deployment)}).data) == 1


def customer_id(deployment: FunctionHarness) -> str:
    """Return acme's Stripe customer id."""
    return deployment.repository.load_account("acme").profile.customer_id or ""


@pytest.mark.usefixtures("stripe_client")
def test_portal_repeated_key_after_its_record_is_lost_returns_the_same_session(deployment: FunctionHarness) -> None:
    """Stripe receives the same idempotency key again."""
    add_ended_subscription(deployment)
    first = post_with_key(deployment, "k1", None, "/v1/billing/portal")
    [record] = deployment.table.query("IDEMPOTENCY#acme", " ", "~")
    key = {"pk": {"S": record["pk"]}, "sk": {"S": record["sk"]}}
    deployment.table.client.delete_item(TableName=deployment.table.name, Key=key)
    again = post_with_key(deployment, "k1", None, "/v1/billing/portal")
    assert (again.body, "idempotent-replayed" in again.headers) == (first.body, False)


@pytest.mark.parametrize(
    "key",
    ["", "k" * 256, "two words", "tab\t", "schlüssel", "\x7f"],
    ids=["empty", "256 characters", "space", "tab", "not ASCII", "control character"],
)
def test_malformed_key_returns_400(deployment: FunctionHarness, key: str) -> None:
    response = post_with_key(deployment, key, PRO)
    body = {
        "code": "INVALID_IDEMPOTENCY_KEY",
        "message": f"Idempotency-Key: {MALFORMED_MESSAGE}",
        "details": [{"path": "Idempotency-Key", "message": MALFORMED_MESSAGE}],
    }
    assert (response.status, response.body) == (400, {"error": body})


ERROR_BODIES: dict[str, Any] = {
    "account": {"error": {"code": "INVALID_IDEMPOTENCY_KEY"}},
    "teams": {
        "success": False,
        "error": {
            "type": "invalid_request_error",
            "code": "INVALID_IDEMPOTENCY_KEY",
            "doc_url": f"{REFERENCE}#errors",
            "request_id": "request-1",
        },
        "meta": {"timestamp": "TIME"},
    },
    "organization": {"success": False, "data": None, "error": {"code": "INVALID_IDEMPOTENCY_KEY"}},
    "subscription": {"error": {"code": "INVALID_IDEMPOTENCY_KEY"}},
    "portal": {
        "error": {
            "code": "INVALID_IDEMPOTENCY_KEY",
            "docUrl": "https://orbitkit.io/api/errors/#invalid_idempotency_key",
        }
    },
}


@pytest.mark.parametrize("contract", ERROR_BODIES)
def test_malformed_key_returns_the_error_body_of_each_contract(deployment: FunctionHarness, contract: str) -> None:
    path, parameters = PORTAL[contract]
    response = deployment.authorized(
        "POST",
        path.format(**parameters),
        route=f"POST {path}",
        parameters=parameters,
        more_headers={"Idempotency-Key": "no key"},
    )
    problem = {
        "message": f"Idempotency-Key: {MALFORMED_MESSAGE}",
        "details": [{"path": "Idempotency-Key", "message": MALFORMED_MESSAGE}],
    }
    expected = ERROR_BODIES[contract] | {"error": ERROR_BODIES[contract]["error"] | problem}
    assert (response.status, without_timestamp(response.body)) == (400, expected)
