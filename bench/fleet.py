"""Many subscribed accounts in the Stripe simulator, and all or part of their state in the table."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

from billing.adapters.dynamodb import Table, Write
from billing.adapters.repository import Commit, ProcessedEvent, Repository
from billing.adapters.stripe_gateway import Listing, StripeGateway
from billing.catalog import load_catalog
from billing.domain.accounts import Profile
from billing.stripe_events.event_types import EventOutcome, Snapshot
from billing.stripe_events.objects import Json, parse_invoice, parse_subscription
from billing.stripe_events.ordering import StoredObject
from stripe_simulator import Simulator, running_simulator
from stripe_simulator.resources import catalog, customers, subscriptions

TRANSACTION_WRITES_MAX = 100
"""Limit of DynamoDB."""
_PROCESSES = multiprocessing.get_context("spawn")


def account_id(number: int) -> str:
    """Return the id of an account by its number."""
    return f"account{number:06d}"


# --- Stripe -----------------------------------------------------------------------------------------------------------


@contextmanager
def simulated_fleet(accounts: int) -> Iterator[str]:
    """Run a Stripe simulator in a separate process, with one paid subscription per account. Yields its URL."""
    connection, child_connection = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_serve, args=(child_connection, accounts), daemon=True)
    process.start()
    child_connection.close()
    try:
        yield connection.recv()
    finally:
        connection.close()
        process.join()


def _serve(connection: Connection, accounts: int) -> None:
    """Create the objects with the API's operations, and serve until the parent closes the connection."""
    with running_simulator() as simulator:
        _subscribe(simulator, accounts)
        connection.send(simulator.url)
        try:
            connection.recv()
        except EOFError:
            return


def _subscribe(simulator: Simulator, accounts: int) -> None:
    state = simulator.server.state
    product = catalog.create_product(state, name="Pro")
    price = catalog.create_price(
        state,
        product=product["id"],
        lookup_key="pro_monthly",
        currency="usd",
        unit_amount=1900,
        recurring={"interval": "month"},
    )
    card: Any = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    for number in range(accounts):
        metadata = {"account_id": account_id(number)}
        customer = customers.create(state, metadata=metadata, **card)
        subscriptions.create(state, customer=customer["id"], items=[{"price": price["id"]}], metadata=metadata)


# --- Table ------------------------------------------------------------------------------------------------------------


class _BatchingTable(Table):
    """Table that combines transactions into batches of up to a hundred writes."""

    def __init__(self, table: Table) -> None:
        super().__init__(table.client, table.name)
        self._pending: dict[str, Write] = {}

    def transact(self, writes: Mapping[str, Write]) -> None:
        """Add writes to the batch, and write the batch if it is full."""
        if len(self._pending) + len(writes) > TRANSACTION_WRITES_MAX:
            self.flush()
        self._pending |= {f"{len(self._pending)} {name}": write for name, write in writes.items()}

    def flush(self) -> None:
        """Write the pending batch."""
        super().transact(self._pending)
        self._pending.clear()


def write_state(table: Table, gateway: StripeGateway, accounts: int, known: int) -> None:
    """Write the accounts, and the Stripe state of the first `known` accounts as their events would have written it."""
    batching_table = _BatchingTable(table)
    repository = Repository(batching_table)
    subscriptions = {each["metadata"]["account_id"]: each for each in _list_all(gateway.list_subscriptions)}
    for number in range(accounts):
        customer_id = subscriptions[account_id(number)]["customer"] if number < known else None
        repository.create_account(Profile(account_id(number), customer_id=customer_id))
    owners = {subscriptions[account_id(number)]["customer"]: account_id(number) for number in range(known)}
    for each in subscriptions.values():
        _write_object(repository, owners, parse_subscription(each, load_catalog()))
    for each in _list_all(gateway.list_invoices):
        _write_object(repository, owners, parse_invoice(each))
    since = datetime.fromtimestamp(0, UTC)
    for event in _list_all(lambda after: gateway.list_events(since, after)):
        _write_marker(repository, owners, event)
    batching_table.flush()


def _list_all(list_page: Callable[[str | None], Listing]) -> Iterator[Json]:
    listing = list_page(None)
    yield from listing.objects.values()
    while listing.after:
        listing = list_page(listing.after)
        yield from listing.objects.values()


def _write_object(repository: Repository, owners: Mapping[str, str], content: Snapshot) -> None:
    if owner := owners.get(content.customer_id):
        now = datetime.now(UTC)
        marker = ProcessedEvent(
            f"evt_seed_{content.id}", "seed", EventOutcome.APPLIED, now, now, owner, content.customer_id
        )
        repository.commit(Commit(marker, [StoredObject(content, now, now, 1)]))


def _write_marker(repository: Repository, owners: Mapping[str, str], event: Json) -> None:
    if event["data"]["object"].get("customer") in owners:
        repository.commit(Commit(ProcessedEvent(event["id"], event["type"], EventOutcome.APPLIED, datetime.now(UTC))))
