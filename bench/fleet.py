"""A fleet of subscribed accounts in a simulated Stripe, and as much of it as is wanted in the table."""

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
from billing.stripe_events.objects import Json, read_invoice, read_subscription
from billing.stripe_events.ordering import StoredObject
from stripe_simulator import Simulator, running_simulator
from stripe_simulator.resources import catalog, customers, subscriptions

TRANSACTION_WRITES_MAX = 100
"""DynamoDB's own."""
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
    world = simulator.server.state
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


class _Gathering(Table):
    """The table, which writes a hundred at a time what it is given as transactions of their own."""

    def __init__(self, table: Table) -> None:
        super().__init__(table.client, table.name)
        self._waiting: dict[str, Write] = {}

    def transact(self, writes: Mapping[str, Write]) -> None:
        """Write these together with others, now or later."""
        if len(self._waiting) + len(writes) > TRANSACTION_WRITES_MAX:
            self.flush()
        self._waiting |= {f"{len(self._waiting)} {name}": write for name, write in writes.items()}

    def flush(self) -> None:
        """Write what waits."""
        super().transact(self._waiting)
        self._waiting.clear()


def write_state(table: Table, gateway: StripeGateway, accounts: int, known: int) -> None:
    """Write the fleet's accounts, and for the first so many what Stripe has of them, as their events would have."""
    gathering = _Gathering(table)
    repository = Repository(gathering)
    subscriptions = {each["metadata"]["account_id"]: each for each in _listed(gateway.list_subscriptions)}
    for number in range(accounts):
        customer_id = subscriptions[account_id(number)]["customer"] if number < known else None
        repository.create_account(Profile(account_id(number), customer_id=customer_id))
    owners = {subscriptions[account_id(number)]["customer"]: account_id(number) for number in range(known)}
    for each in subscriptions.values():
        _write(repository, owners, read_subscription(each, load_catalog()))
    for each in _listed(gateway.list_invoices):
        _write(repository, owners, read_invoice(each))
    since = datetime.fromtimestamp(0, UTC)
    for event in _listed(lambda after: gateway.list_events(since, after)):
        _write_marker(repository, owners, event)
    gathering.flush()


def _listed(list_page: Callable[[str | None], Listing]) -> Iterator[Json]:
    listing = list_page(None)
    yield from listing.objects.values()
    while listing.after:
        listing = list_page(listing.after)
        yield from listing.objects.values()


def _write(repository: Repository, owners: Mapping[str, str], content: Snapshot) -> None:
    if owner := owners.get(content.customer_id):
        now = datetime.now(UTC)
        marker = ProcessedEvent(
            f"evt_seed_{content.id}", "seed", EventOutcome.APPLIED, now, now, owner, content.customer_id
        )
        repository.commit(Commit(marker, [StoredObject(content, now, now, 1)]))


def _write_marker(repository: Repository, owners: Mapping[str, str], event: Json) -> None:
    if event["data"]["object"].get("customer") in owners:
        repository.commit(Commit(ProcessedEvent(event["id"], event["type"], EventOutcome.APPLIED, datetime.now(UTC))))
