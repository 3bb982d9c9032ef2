"""The `Idempotency-Key` header on POSTs: one effect for one key, in each contract's words."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe

from stripe_simulator import Simulator
from tests.api.contracts.test_documents import PORTAL, REFERENCE, timeless
from tests.functions.conftest import Answer, Deployment, control
from tests.functions.events import event, subscription
from tests.functions.stripe_side import fault

pytestmark = pytest.mark.engine

CHECKOUT = "/v1/billing/checkout"
PRO, TEAM = {"tier": "pro"}, {"tier": "team"}
REUSED = "This idempotency key was used with another request body; use a new key"
MALFORMED = "must be 1 to 255 visible ASCII characters"


def keyed(deployment: Deployment, key: str, body: object, path: str = CHECKOUT) -> Answer:
    """A POST with that key."""
    return deployment.authorized("POST", path, body, more_headers={"Idempotency-Key": key})


def subscribe(deployment: Deployment) -> None:
    """Give acme a customer in Stripe and a past there."""
    deployment.authorized("POST", CHECKOUT, PRO)
    customer = deployment.repository.load_account("acme").profile.customer_id
    deployment.deliver(event("customer.subscription.deleted", subscription(customer=customer, status="canceled")))


@pytest.mark.usefixtures("stripe_client")
def test_the_same_key_replays_the_first_answer(deployment: Deployment) -> None:
    """Byte for byte, and says so; without the key every portal session is another."""
    subscribe(deployment)
    place = "/v1/billing/portal"
    first, again, other = (keyed(deployment, key, None, place) for key in ("k1", "k1", "k2"))
    assert (again.status, again.body) == (200, first.body)
    assert other.body != first.body
    assert [each.headers.get("idempotent-replayed") for each in (first, again, other)] == [None, "true", None]


@pytest.mark.usefixtures("stripe_client")
def test_a_key_is_of_one_account_and_one_route(deployment: Deployment) -> None:
    """The same characters elsewhere are another key."""
    subscribe(deployment)
    first = keyed(deployment, "k1", None, "/v1/billing/portal")
    elsewhere = keyed(deployment, "k1", {"returnUrl": "/other"}, "/api/billing/portal")
    assert (elsewhere.status, "idempotent-replayed" in elsewhere.headers) == (200, False)
    assert elsewhere.body["data"]["url"] != first.body["portal_url"]


@pytest.mark.usefixtures("stripe_client")
def test_the_order_of_fields_makes_no_other_body(deployment: Deployment) -> None:
    """The content counts, not its spelling."""
    bodies = [{"tier": "team", "quantity": 2}, {"quantity": 2, "tier": "team"}]
    assert [keyed(deployment, "k1", body).status for body in bodies] == [200, 200]


@pytest.mark.usefixtures("stripe_client")
def test_another_body_is_refused(deployment: Deployment) -> None:
    """422, and the first answer stays what it was."""
    first = keyed(deployment, "k1", PRO)
    answer = keyed(deployment, "k1", TEAM)
    assert (answer.status, answer.body) == (422, {"error": {"code": "IDEMPOTENCY_KEY_REUSE", "message": REUSED}})
    assert keyed(deployment, "k1", PRO).body == first.body


def test_what_failed_is_tried_again(
    deployment: Deployment, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """A key does not remember that Stripe was down."""
    fault(simulator, "status:500")
    assert keyed(deployment, "k1", PRO).status == 503
    control(simulator, "DELETE", "faults")
    answer = keyed(deployment, "k1", PRO)
    assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)
    assert len(stripe_client.v1.checkout.sessions.list({"customer": customer_of(deployment)}).data) == 1


def test_twenty_at_once_make_one_session(deployment: Deployment, stripe_client: stripe.StripeClient) -> None:
    """Each is answered with the one page, or told that the first is still running."""
    deployment.authorized("GET", "/v1/billing")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: keyed(deployment, "k1", PRO), range(20)))
    pages = {answer.body["checkout_url"] for answer in answers if answer.status == 200}
    waiting = [answer for answer in answers if answer.status == 409]
    assert len(pages) == 1
    assert len(waiting) + sum(answer.status == 200 for answer in answers) == 20
    assert all(answer.body["error"]["code"] == "IDEMPOTENCY_KEY_REUSE" for answer in waiting)
    assert all(answer.headers["retry-after"] == "1" for answer in waiting)
    assert len(stripe_client.v1.checkout.sessions.list({"customer": customer_of(deployment)}).data) == 1


def customer_of(deployment: Deployment) -> str:
    """Acme's customer."""
    return deployment.repository.load_account("acme").profile.customer_id or ""


@pytest.mark.usefixtures("stripe_client")
def test_stripe_knows_a_portal_session_by_the_callers_key(deployment: Deployment) -> None:
    """If the first answer was lost before it was kept, Stripe still gives the same session."""
    subscribe(deployment)
    first = keyed(deployment, "k1", None, "/v1/billing/portal")
    [record] = deployment.table.query("IDEMPOTENCY#acme", " ", "~")
    key = {"pk": {"S": record["pk"]}, "sk": {"S": record["sk"]}}
    deployment.table.client.delete_item(TableName=deployment.table.name, Key=key)
    again = keyed(deployment, "k1", None, "/v1/billing/portal")
    assert (again.body, "idempotent-replayed" in again.headers) == (first.body, False)


@pytest.mark.parametrize("key", ["", "k" * 256, "two words", "tab\t", "schlüssel", "\x7f"])
def test_a_malformed_key_is_refused(deployment: Deployment, key: str) -> None:
    """400, at the header, before anything is done."""
    answer = keyed(deployment, key, PRO)
    body = {
        "code": "INVALID_IDEMPOTENCY_KEY",
        "message": f"Idempotency-Key: {MALFORMED}",
        "details": [{"path": "Idempotency-Key", "message": MALFORMED}],
    }
    assert (answer.status, answer.body) == (400, {"error": body})


INVALID: dict[str, Any] = {
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


@pytest.mark.parametrize("contract", INVALID)
def test_each_contract_has_the_code(deployment: Deployment, contract: str) -> None:
    """In its own envelope, with the path of what is wrong."""
    path, parameters = PORTAL[contract]
    answer = deployment.authorized(
        "POST",
        path.format(**parameters),
        route=f"POST {path}",
        parameters=parameters,
        more_headers={"Idempotency-Key": "no key"},
    )
    told = {
        "message": f"Idempotency-Key: {MALFORMED}",
        "details": [{"path": "Idempotency-Key", "message": MALFORMED}],
    }
    expected = INVALID[contract] | {"error": INVALID[contract]["error"] | told}
    assert (answer.status, timeless(answer.body)) == (400, expected)
