"""Catalogs of other shapes than the one that comes with the project, in a Stripe account."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from errno import ECONNREFUSED
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import stripe

from billing.adapters.stripe_gateway import StripeGateway, connect
from billing.domain.plans import Catalog, Plan, Price
from cli.errors import CommandFailed
from cli.stripe_account import sync_catalog, sync_portal
from cli.stripe_connection import map_stripe_errors
from tests.cli.conftest import STRIPE_KEY, StripeAccount

FREE = Plan("free", "Free")
MONTHLY = Price("pro_monthly", 1900, "usd", "month")
YEARLY = Price("pro_yearly", 19000, "usd", "year")
LEGACY = Price("pro_monthly_900", 900, "usd", "month", id="price_legacy")


def pro(*prices: Price) -> Catalog:
    """A catalog that sells Pro at some prices."""
    return Catalog((FREE, Plan("pro", "Pro", prices)))


def test_a_price_that_lost_its_key_is_found_by_its_id(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """What setup says to add to the catalog after a change of amount works: nothing is made, and it is not on offer."""
    sync_catalog(stripe_client, pro(replace(MONTHLY, unit_amount=900)))
    changes, _ = sync_catalog(stripe_client, pro(MONTHLY))
    [replaced] = [each for each in changes if each.outcome == "replaced"]
    [old] = [each for each in stripe_account.world.all("price") if each["lookup_key"] is None]
    catalog = pro(MONTHLY, replace(LEGACY, id=old["id"]))
    changes, prices = sync_catalog(stripe_client, catalog)
    assert {each.outcome for each in changes} == {"unchanged"}
    assert [each.warning for each in changes] == [None] * 3
    sync_portal(stripe_client, "stack", catalog, prices)
    [portal] = stripe_account.world.all("billing_portal.configuration")
    [offer] = portal["features"]["subscription_update"]["products"]
    assert offer["prices"] == [replaced.id]


def test_a_price_id_with_other_terms_is_said(stripe_client: stripe.StripeClient) -> None:
    """The price exists and cannot be changed: it is the catalog that has to be put right."""
    _, prices = sync_catalog(stripe_client, pro(MONTHLY))
    wrong = replace(MONTHLY, unit_amount=1, id=prices["pro_monthly"].id)
    changes, _ = sync_catalog(stripe_client, pro(wrong))
    assert prices["pro_monthly"].id in str(changes[-1].warning)


def test_a_price_id_that_stripe_does_not_have_is_refused(stripe_client: stripe.StripeClient) -> None:
    """A typing mistake, or an id of another Stripe account."""
    with pytest.raises(CommandFailed, match="price_legacy"):
        sync_catalog(stripe_client, pro(LEGACY))


def test_a_customer_can_change_the_interval(stripe_client: stripe.StripeClient, stripe_account: StripeAccount) -> None:
    """Monthly and yearly of one plan are prices of one product, and both on offer in the portal."""
    catalog = pro(MONTHLY, YEARLY)
    _, prices = sync_catalog(stripe_client, catalog)
    sync_portal(stripe_client, "stack", catalog, prices)
    [portal] = stripe_account.world.all("billing_portal.configuration")
    [offer] = portal["features"]["subscription_update"]["products"]
    assert set(offer["prices"]) == {prices["pro_monthly"].id, prices["pro_yearly"].id}


def test_a_catalog_without_prices_needs_no_product(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """Everything free: a portal without plans to change to, and nothing that Stripe refuses."""
    changes, prices = sync_catalog(stripe_client, Catalog((FREE,)))
    assert changes == []
    assert sync_portal(stripe_client, "stack", Catalog((FREE,)), prices).outcome == "created"
    assert sync_portal(stripe_client, "stack", Catalog((FREE,)), prices).outcome == "unchanged"
    assert list(stripe_account.world.all("product")) == []


def test_many_prices_are_found_again(stripe_client: stripe.StripeClient) -> None:
    """More prices than one request may ask for."""
    prices = [Price(f"pro_{amount}", amount, "usd", "month") for amount in range(1, 25)]
    sync_catalog(stripe_client, pro(*prices))
    changes, _ = sync_catalog(stripe_client, pro(*prices))
    assert {each.outcome for each in changes} == {"unchanged"}


def test_an_archived_price_is_not_sold(stripe_client: stripe.StripeClient, stripe_account: StripeAccount) -> None:
    """Checkout finds active prices only, so the lookup key goes to a new one."""
    _, prices = sync_catalog(stripe_client, pro(MONTHLY))
    stripe_client.v1.prices.update(prices["pro_monthly"].id, {"active": False})
    changes, _ = sync_catalog(stripe_client, pro(MONTHLY))
    assert changes[-1].outcome == "replaced"
    [holder] = [each for each in stripe_account.world.all("price") if each["lookup_key"]]
    assert holder["active"]


# --- A Stripe that is none --------------------------------------------------------------------------------------------


REFUSED = f"[Errno {ECONNREFUSED}] Connection refused"


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """A web server that is no Stripe."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def failures(api_base: str) -> set[tuple[str, str]]:
    """Why a Stripe at this address does not answer: what is said where the SDK is asked, and where the product is."""
    client, told = connect(STRIPE_KEY, api_base), set()
    with pytest.raises(CommandFailed) as failed, map_stripe_errors():
        client.v1.customers.list({"limit": 100})
    told.add((failed.value.code, failed.value.message))
    with pytest.raises(CommandFailed) as failed, map_stripe_errors():
        StripeGateway(client).list_customers(None)
    return told | {(failed.value.code, failed.value.message)}


@pytest.mark.parametrize(
    ("api_base", "said"),
    [
        ("http://127.0.0.1:9", f"(127.0.0.1:9: Failed to establish a new connection: {REFUSED})"),
        ("localhost:8001", "(No connection adapters were found for 'localhost:8001/v1/customers')"),
    ],
)
def test_an_address_without_stripe(api_base: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One short line has the host and the reason: neither the query nor whom Stripe would like to be told."""
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    message = f"Stripe cannot be reached: check the network and STRIPE_API_BASE. {said}"
    assert failures(api_base) == {("stripe_unreachable", message)}


def test_a_page_instead_of_an_answer() -> None:
    """As much of it is told as fits on a few lines."""
    with answering(b"<html>" + b"<p>Welcome</p> " * 1000) as url:
        [(code, message)] = failures(url)
    assert code == "stripe_failed"
    assert "<html>" in message
    assert len(message) < 400
