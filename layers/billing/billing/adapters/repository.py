"""What is kept of accounts, keys and Stripe's events. docs/reference/data-model.md draws the rows.

Every write that depends on what was read is conditional on the row's `version`, and what belongs together is one
transaction.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from billing.adapters.dynamodb import Item, Table, Write, WriteRejected, key, put, update
from billing.domain.accounts import GAUGE_DEFAULTS, Account, OpenCheckout, Profile
from billing.domain.errors import BillingError
from billing.domain.invoices import Invoice, InvoicePage
from billing.domain.outbound_events import OutboundEvent
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import EventOutcome, ObjectRef, Snapshot
from billing.stripe_events.ordering import StoredObject

EVENT_RETENTION = timedelta(days=35)
"""Longer than the 30 days for which Stripe resends an event."""
GAUGE = "USAGE#-#"
"""Begins the sort key of a gauge: before every counter's, whose period is a number."""
EVENTS_INDEX = "Events"
_OUTCOME = "OUTCOME#"
FILTERED_ROWS_MAX = 500
"""How many invoices one request looks through for those of a status."""


class VersionConflict(BillingError):
    """Another writer was faster: read again and decide again. `refused_first`: it was the first write's condition."""

    def __init__(self, *, first_write_rejected: bool = False) -> None:
        self.first_write_rejected = first_write_rejected
        super().__init__("A row is no longer the one that was read")


class EventAlreadyProcessed(BillingError):
    """The event's marker is there: somebody else committed its effect."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A secret key as it is kept: never the key itself. `id` is how an operator names it."""

    id: str
    account_id: str
    kind: str
    created: datetime
    last_characters: str
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProcessedEvent:
    """What became of an event. `account_id`: whose it is; the one that it names, where it was not matched."""

    event_id: str
    type: str
    outcome: EventOutcome
    processed: datetime
    created: datetime | None = None
    account_id: str | None = None
    customer_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything that one event writes, in one transaction. A `profile` is written on its `version`."""

    marker: ProcessedEvent
    rows: Sequence[StoredObject[Snapshot]] = ()
    outbound: Sequence[OutboundEvent] = ()
    profile: Profile | None = None
    new_customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class EventContext:
    """What is known of the things an event names. `rows` holds only those that exist."""

    outcome: EventOutcome | None
    account_of_customer: str | None
    profile: Profile | None
    rows: Mapping[str, StoredObject[Snapshot]]


class Repository:
    """The table, by what is asked of it."""

    def __init__(self, table: Table) -> None:
        """Take the table on any DynamoDB engine."""
        self._table = table

    # --- accounts -----------------------------------------------------------------------------------------------------

    def load_account(self, account_id: str) -> Account:
        """The profile, all subscriptions and all gauges, in one strongly consistent Query.

        Nothing stored is an empty account.
        """
        items = self._table.query(f"ACCOUNT#{account_id}", "PROFILE", f"{GAUGE}~")
        profile = next((_profile(item) for item in items if item["sk"] == "PROFILE"), Profile(account_id))
        subscriptions = tuple(_stored_object(item).content for item in items if item["sk"].startswith("SUB#"))
        gauges = {item["sk"].removeprefix(GAUGE): item["used"] for item in items if item["sk"].startswith(GAUGE)}
        return Account(
            profile,
            tuple(each for each in subscriptions if isinstance(each, Subscription)),
            {**GAUGE_DEFAULTS, **gauges},
        )

    def load_subscription_rows(self, account_id: str) -> Mapping[str, StoredObject[Snapshot]]:
        """Every subscription row of an account by its id, with what the event protocol needs of it."""
        rows = [_stored_object(item) for item in self._table.query(f"ACCOUNT#{account_id}", "SUB#", "SUB#~")]
        return {row.content.id: row for row in rows}

    def create_account(self, profile: Profile) -> None:
        """Write a new account, with a nonce of its own, and make its Stripe customer findable if it has one.

        Raises VersionConflict if it is there, or the customer is another account's.
        """
        created = replace(profile, version=1, nonce=secrets.token_hex(16))
        writes = [_put_profile(created, expected_version=0)]
        if profile.customer_id:
            writes.append(_put_customer(profile.customer_id, profile.account_id))
        self._transact(writes)

    def save_profile(self, profile: Profile, *, new_customer_id: str | None = None) -> Profile:
        """Write the profile over the version it was read at. Raises VersionConflict.

        `new_customer_id` also makes that Stripe customer findable, in the same transaction.
        """
        saved = replace(profile, version=profile.version + 1)
        writes = [_put_profile(saved, expected_version=profile.version)]
        if new_customer_id:
            writes.append(_put_customer(new_customer_id, profile.account_id))
        self._transact(writes)
        return saved

    # --- invoices -----------------------------------------------------------------------------------------------------

    def list_invoices(
        self, account_id: str, limit: int, *, status: str | None = None, after: str | None = None
    ) -> InvoicePage:
        """At most `limit` issued invoices, newest first, from the position `after` on, in one Query.

        A page of one `status`, or with drafts left out, can hold fewer, or none, and still be continued.
        """
        page = self._table.latest(
            f"ACCOUNT#{account_id}",
            "INV#",
            "INV#~",
            limit=FILTERED_ROWS_MAX if status else limit + 1,
            only={"status": status} if status else None,
            before=f"INV#{after}" if after else None,
        )
        items = page.items[:limit]
        last = items[-1]["sk"] if len(page.items) > limit else page.continues_after
        invoices = [_load(Invoice, item) for item in items]
        return InvoicePage(
            [invoice for invoice in invoices if invoice.is_issued], last.removeprefix("INV#") if last else None
        )

    # --- keys ---------------------------------------------------------------------------------------------------------

    def find_key(self, digest: str) -> KeyRecord | None:
        """The key with this SHA-256, revoked ones too; None if there never was one."""
        item = self._table.get(f"KEY#{digest}", "KEY")
        return _key_record(item) if item else None

    def create_key(self, digest: str, record: KeyRecord) -> None:
        """Store a key, findable by its digest and listed with its account."""
        facts = _dump(record)
        self._transact(
            [
                put(key(f"KEY#{digest}", "KEY") | facts, "attribute_not_exists(pk)"),
                put(key(f"ACCOUNT#{record.account_id}", f"KEY#{record.id}") | facts | {"digest": digest}),
            ]
        )

    def list_keys(self, account_id: str) -> list[KeyRecord]:
        """All keys an account ever had."""
        return [_key_record(item) for item in self._table.query(f"ACCOUNT#{account_id}", "KEY#", "KEY#~")]

    def revoke_key(self, account_id: str, key_id: str, now: datetime) -> KeyRecord | None:
        """Stop a key from working, for good. None if the account has no such key."""
        item = next(
            (item for item in self._table.query(f"ACCOUNT#{account_id}", "KEY#", "KEY#~") if item["id"] == key_id), None
        )
        if item is None:
            return None
        places = (key(f"KEY#{item['digest']}", "KEY"), key(f"ACCOUNT#{account_id}", f"KEY#{key_id}"))
        self._transact(
            [update(place, "SET revoked = if_not_exists(revoked, :now)", {":now": to_seconds(now)}) for place in places]
        )
        return replace(_key_record(item), revoked=_key_record(item).revoked or now)

    # --- Stripe's events ----------------------------------------------------------------------------------------------

    def read_event_context(
        self, event_id: str, customer_id: str, account_id: str | None, targets: Sequence[ObjectRef]
    ) -> EventContext:
        """The event's marker, whose customer it is, that account and its rows: one strongly consistent BatchGetItem."""
        wanted = [key(f"EVENT#{event_id}", "RECEIVED"), key(f"CUSTOMER#{customer_id}", "ACCOUNT")]
        if account_id:
            wanted.append(key(f"ACCOUNT#{account_id}", "PROFILE"))
            wanted += [key(f"ACCOUNT#{account_id}", _row_sk(target)) for target in targets]
        found = {(item["pk"], item["sk"]): item for item in self._table.batch_get(wanted)}
        marker = found.get((f"EVENT#{event_id}", "RECEIVED"))
        customer = found.get((f"CUSTOMER#{customer_id}", "ACCOUNT"))
        profile = found.get((f"ACCOUNT#{account_id}", "PROFILE"))
        rows = [_stored_object(item) for (_, sk), item in found.items() if sk.startswith(("SUB#", "INV#"))]
        return EventContext(
            outcome=EventOutcome(marker["outcome"]) if marker else None,
            account_of_customer=customer["account_id"] if customer else None,
            profile=_profile(profile) if profile else None,
            rows={row.content.id: row for row in rows},
        )

    def commit(self, commit: Commit) -> None:
        """Write an event's marker and its whole effect, or nothing.

        Raises EventAlreadyProcessed if its marker is there with a final outcome, VersionConflict if a row or the
        profile is no longer the one that was read, or the new customer has an account by now.
        """
        account_id = commit.marker.account_id
        writes = [_put_marker(commit.marker)]
        writes += [_put_row(f"ACCOUNT#{account_id}", row) for row in commit.rows]
        writes += [_put_outbound(event, commit.marker.processed) for event in commit.outbound]
        if commit.profile:
            saved = replace(commit.profile, version=commit.profile.version + 1)
            writes.append(_put_profile(saved, expected_version=commit.profile.version))
        if commit.new_customer_id and account_id:
            writes.append(_put_new_customer(commit.new_customer_id, account_id))
        try:
            self._transact(writes)
        except VersionConflict as conflict:
            if conflict.first_write_rejected:
                raise EventAlreadyProcessed from conflict
            raise

    # --- what became of events, for the operator ----------------------------------------------------------------------

    def find_markers(self, event_ids: Iterable[str]) -> Mapping[str, ProcessedEvent]:
        """What is recorded of at most 100 events, by their ids."""
        found = self._find({f"EVENT#{event_id}": "RECEIVED" for event_id in event_ids})
        return {item["event_id"]: _marker(item) for item in found}

    def list_open_events(self, outcome: EventOutcome, since: datetime, until: datetime) -> Iterator[ProcessedEvent]:
        """Events with an outcome that is not final, the one that was processed last first."""
        return self._list_events(f"{_OUTCOME}{outcome}", since, until)

    def list_account_events(self, account_id: str, since: datetime, until: datetime) -> Iterator[ProcessedEvent]:
        """Events of an account with a final outcome, the one that was processed last first."""
        return self._list_events(f"ACCOUNT#{account_id}", since, until)

    def _list_events(self, place: str, since: datetime, until: datetime) -> Iterator[ProcessedEvent]:
        bounds = ("processed", to_seconds(since), to_seconds(until))
        return map(_marker, self._table.by_index(EVENTS_INDEX, ("listed_under", place), bounds))

    # --- reconciliation: what a page of Stripe's lists needs, at most 100 rows each, in one BatchGetItem --------------

    def find_owners(self, customer_ids: Iterable[str]) -> Mapping[str, str]:
        """Whose Stripe customers are, by their ids."""
        found = self._find({f"CUSTOMER#{customer_id}": "ACCOUNT" for customer_id in customer_ids})
        return {item["pk"].removeprefix("CUSTOMER#"): item["account_id"] for item in found}

    def find_profiles(self, account_ids: Iterable[str]) -> Mapping[str, Profile]:
        """The profiles of those accounts that are stored, by their ids."""
        found = self._find({f"ACCOUNT#{account_id}": "PROFILE" for account_id in account_ids})
        return {profile.account_id: profile for profile in map(_profile, found)}

    def find_rows(self, places: Iterable[tuple[str, ObjectRef]]) -> Mapping[str, StoredObject[Snapshot]]:
        """The rows of accounts' subscriptions and invoices that are there, by the ids of these."""
        wanted = [key(f"ACCOUNT#{account_id}", _row_sk(target)) for account_id, target in places]
        rows = [_stored_object(item) for item in self._table.batch_get(wanted)] if wanted else []
        return {row.content.id: row for row in rows}

    def _find(self, sk_by_pk: Mapping[str, str]) -> list[Item]:
        return self._table.batch_get([key(pk, sk) for pk, sk in sk_by_pk.items()]) if sk_by_pk else []

    def list_live_subscriptions(self, account_id: str | None = None) -> Iterator[tuple[str, Subscription]]:
        """An account's subscriptions that have not ended, with its id; without one everybody's, by a Scan."""
        found = self._table.query(f"ACCOUNT#{account_id}", "SUB#", "SUB#~") if account_id else self._table.scan("SUB#")
        for item in found:
            content = _stored_object(item).content
            if isinstance(content, Subscription) and not content.has_ended:
                yield item["pk"].removeprefix("ACCOUNT#"), content

    def _transact(self, writes: Sequence[Write]) -> None:
        try:
            self._table.transact(writes)
        except WriteRejected as error:
            first = error.reasons.get(0)
            raise VersionConflict(first_write_rejected=first is not None and first.by_condition) from error


# --- writes: each is a part of a transaction that still lacks the table's name ----------------------------------------


def _put_versioned(item: Item, expected_version: int) -> Write:
    if expected_version == 0:
        return put(item, "attribute_not_exists(pk)")
    return put(item, "version = :expected", {":expected": expected_version})


def _put_profile(profile: Profile, *, expected_version: int) -> Write:
    return _put_versioned(key(f"ACCOUNT#{profile.account_id}", "PROFILE") | _dump(profile), expected_version)


def _put_customer(customer_id: str, account_id: str) -> Write:
    """A Stripe customer belongs to one account for good: writing it once more for the same account is no conflict."""
    item = key(f"CUSTOMER#{customer_id}", "ACCOUNT") | {"account_id": account_id}
    return put(item, "attribute_not_exists(pk) OR account_id = :account_id", {":account_id": account_id})


def _put_new_customer(customer_id: str, account_id: str) -> Write:
    """An event links a customer that nobody had when it was read; it may have been linked since, and even deleted."""
    item = key(f"CUSTOMER#{customer_id}", "ACCOUNT") | {"account_id": account_id}
    return put(item, "attribute_not_exists(pk)")


def _put_row(pk: str, row: StoredObject[Snapshot]) -> Write:
    interval = {"seen_from": to_seconds(row.seen_from), "seen_to": to_seconds(row.seen_to), "version": row.version}
    item = key(pk, _row_sk(ObjectRef(type(row.content), row.content.id, row.content))) | _dump(row.content) | interval
    return _put_versioned(item, row.version - 1)


def _put_marker(marker: ProcessedEvent) -> Write:
    """The first line of defence against a second delivery: refused if the event already has a final outcome.

    Event seen first          -> no item, written.
    Delivered again, later    -> the reader finds the marker; this is never reached.
    Delivered again, meanwhile -> both read no marker, one is refused here.
    Was unknown_customer, seen again -> its outcome is not final, overwritten.
    """
    item = key(f"EVENT#{marker.event_id}", "RECEIVED") | _dump(marker)
    item["expires_at"] = to_seconds(marker.processed + EVENT_RETENTION)
    if place := _listed_under(marker):
        item["listed_under"] = place
    open_outcomes = {f":{outcome}": outcome.value for outcome in EventOutcome if not outcome.is_final}
    return put(item, f"attribute_not_exists(pk) OR outcome IN ({', '.join(open_outcomes)})", open_outcomes)


def _listed_under(marker: ProcessedEvent) -> str | None:
    """Where an operator looks for an event: among those to look at, or with its account. Nobody looks for the rest."""
    if not marker.outcome.is_final:
        return f"{_OUTCOME}{marker.outcome}"
    return f"ACCOUNT#{marker.account_id}" if marker.account_id else None


def _put_outbound(event: OutboundEvent, processed: datetime) -> Write:
    item = key(f"ACCOUNT#{event.account_id}", f"OUT#{to_seconds(event.occurred_at):012d}#{event.id}") | _dump(event)
    return put(item | {"expires_at": to_seconds(max(processed, event.occurred_at) + EVENT_RETENTION)})


# --- rows -------------------------------------------------------------------------------------------------------------


def _row_sk(target: ObjectRef) -> str:
    if isinstance(target.snapshot, Invoice):
        return f"INV#{to_seconds(target.snapshot.created):012d}#{target.id}"
    return f"SUB#{target.id}"


def _stored_object(item: Item) -> StoredObject[Snapshot]:
    content = _load(Invoice, item) if item["sk"].startswith("INV#") else _load(Subscription, item)
    return StoredObject(content, from_seconds(item["seen_from"]), from_seconds(item["seen_to"]), item["version"])


def _marker(item: Item) -> ProcessedEvent:
    return _load(ProcessedEvent, item | {"outcome": EventOutcome(item["outcome"])})


def _profile(item: Item) -> Profile:
    checkout = item.get("open_checkout")
    return _load(Profile, item | {"open_checkout": OpenCheckout(**checkout) if checkout else None})


def _key_record(item: Item) -> KeyRecord:
    return _load(KeyRecord, item)


def _dump(value: Any) -> Item:  # noqa: ANN401 - any of our frozen dataclasses
    """A dataclass as an item: times as seconds, what is None left out."""
    facts = {field.name: getattr(value, field.name) for field in fields(value)}
    return {name: _plain(fact) for name, fact in facts.items() if fact is not None}


def _plain(fact: Any) -> Any:  # noqa: ANN401 - whatever a field holds
    if isinstance(fact, datetime):
        return to_seconds(fact)
    return _dump(fact) if isinstance(fact, OpenCheckout) else fact


def _load[T](cls: type[T], item: Item) -> T:
    """The dataclass that `_dump` made an item of. A field that older rows lack gets its default, or None."""
    known: Item = {}
    for field in fields(cls):  # type: ignore[arg-type]
        fact = item.get(field.name)
        if fact is not None or field.default is MISSING:
            known[field.name] = from_seconds(fact) if isinstance(fact, int) and "datetime" in str(field.type) else fact
    return cls(**known)


def to_seconds(moment: datetime) -> int:
    """Return a time as stored: whole seconds since 1970 (UTC)."""
    return int(moment.timestamp())


def from_seconds(seconds: int) -> datetime:
    """Return a stored time."""
    return datetime.fromtimestamp(seconds, UTC)
