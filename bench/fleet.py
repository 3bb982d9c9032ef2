"""A fleet of subscribed accounts in a simulated Stripe, and as much of it as is wanted in the table."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

from billing.catalog import load_catalog
from billing.domain.accounts import Profile
from billing.domain.sightings import Sighting
from billing.domain.stripe_events import Outcome, Snapshot
from billing.domain.stripe_objects import Json, read_invoice, read_subscription
from billing.dynamodb import Table, Write, key, put
from billing.payments import Listing, Payments
from billing.store import Commit, EventMarker, Store
from local.stripe_simulator import Simulator, running_simulator
from local.stripe_simulator.resources import catalog, customers, subscriptions

WRITERS = 4
_PROCESSES = multiprocessing.get_context("spawn")


def account_id(number: int) -> str:
    """The accounts of the fleet by number."""
    return f"account{number:06d}"


# --- in Stripe --------------------------------------------------------------------------------------------------------


@contextmanager
def simulated_fleet(accounts: int) -> Iterator[str]:
    """The address of a Stripe, a process of its own, with so many paid subscriptions of as many customers."""
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_serve, args=(theirs, accounts), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join()


def _serve(connection: Connection, accounts: int) -> None:
    """Seed in the process, as the API's operations do it, and serve until the other end hangs up."""
    with running_simulator() as simulator:
        _subscribe(simulator, accounts)
        connection.send(simulator.url)
        try:
            connection.recv()
        except EOFError:
            return


def _subscribe(simulator: Simulator, accounts: int) -> None:
    world = simulator.server.world
    product = catalog.create_product(world, name="Pro")
    price = catalog.create_price(
        world,
        product=product["id"],
        lookup_key="pro_monthly",
        currency="usd",
        unit_amount=1900,
        recurring={"interval": "month"},
    )
    card: Any = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    for number in range(accounts):
        metadata = {"account_id": account_id(number)}
        customer = customers.create(world, metadata=metadata, **card)
        subscriptions.create(world, customer=customer["id"], items=[{"price": price["id"]}], metadata=metadata)


# --- in the table -----------------------------------------------------------------------------------------------------


def create_accounts(store: Store, accounts: int) -> None:
    """The fleet's accounts, which nobody has linked to a customer yet."""
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda number: store.create_account(Profile(account_id(number))), range(accounts)))


def write_state(store: Store, table: Table, payments: Payments, known: int) -> None:
    """Write what Stripe has of the first so many accounts, as their events would have, and the events' markers."""
    ids = {account_id(number) for number in range(known)}
    since = datetime.fromtimestamp(0, UTC)
    owners: dict[str, str] = {}
    with ThreadPoolExecutor(WRITERS) as pool:
        for listing in _pages(payments.list_subscriptions):
            ours = [source for source in listing.objects.values() if source["metadata"]["account_id"] in ids]
            owners |= {source["customer"]: source["metadata"]["account_id"] for source in ours}
            list(pool.map(lambda each: _write_subscription(store, each), ours))
        for listing in _pages(payments.list_invoices):
            ours = [source for source in listing.objects.values() if source["customer"] in owners]
            list(pool.map(lambda each: _write_invoice(store, each, owners[each["customer"]]), ours))
        for listing in _pages(lambda after: payments.list_events(since, after)):
            ours = [event for event in listing.objects.values() if event["data"]["object"].get("customer") in owners]
            if ours:
                table.transact([_put_marker(event) for event in ours])


def _pages(list_page: Callable[[str | None], Listing]) -> Iterator[Listing]:
    listing = list_page(None)
    yield listing
    while listing.after:
        listing = list_page(listing.after)
        yield listing


def _write_subscription(store: Store, source: Json) -> None:
    owner = source["metadata"]["account_id"]
    [profile] = store.find_profiles([owner]).values()
    linked = replace(profile, customer_id=source["customer"])
    _write(store, owner, read_subscription(source, load_catalog()), linked)


def _write_invoice(store: Store, source: Json, owner: str) -> None:
    _write(store, owner, read_invoice(source), None)


def _write(store: Store, owner: str, content: Snapshot, profile: Profile | None) -> None:
    now = datetime.now(UTC)
    marker = EventMarker(f"evt_seed_{content.id}", "seed", Outcome.APPLIED, now, now, owner, content.customer_id)
    customer_id = content.customer_id if profile else None
    store.commit(Commit(marker, [Sighting(content, now, now, 1)], profile=profile, new_customer_id=customer_id))


def _put_marker(event: Json) -> Write:
    facts = {"event_id": event["id"], "type": event["type"], "outcome": "applied", "processed": event["created"]}
    return put(key(f"EVENT#{event['id']}", "RECEIVED") | facts)
