"""DynamoDB repository for accounts, API keys, invoices and processed Stripe events.

Item layout: docs/reference/data-model.md. A write that depends on a read is conditional on the `version` that was read.
Writes that belong together are one transaction.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import batched

from billing.adapters.dynamodb import Item, Table, Write, WriteRejected, check, delete, key, put, put_version, update
from billing.adapters.item_codec import ItemCodec, from_seconds, to_seconds
from billing.adapters.outbox import put_outbound
from billing.domain.accounts import GAUGE_DEFAULTS, Account, OpenCheckout, Profile
from billing.domain.errors import BillingError
from billing.domain.invoices import Invoice, InvoicePage
from billing.domain.outbound_events import OutboundEvent
from billing.domain.subscriptions import PendingChange, Subscription
from billing.stripe_events.event_types import EventOutcome, ObjectRef, Snapshot
from billing.stripe_events.ordering import StoredObject

EVENT_RETENTION = timedelta(days=35)
"""Longer than the 30 days for which Stripe resends an event."""
GAUGE_PREFIX = "USAGE#-#"
"""Prefix of a gauge's sort key. It sorts before all counters, whose keys begin with the period as a number."""
EVENTS_INDEX = "Events"
OPEN_OUTCOME_PREFIX = "OUTCOME#"
FILTERED_ROWS_MAX = 500
"""Number of invoices that one request reads to find those of a status."""
TRANSACTION_WRITES_MAX = 100
"""https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html"""


class VersionConflict(BillingError):
    """Another writer changed an item after it was read. Read it and decide again."""

    def __init__(self) -> None:
        super().__init__("An item changed after it was read")


class EventAlreadyProcessed(BillingError):
    """The event has a marker with a final outcome: its effect is already committed."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """Stored API key. Only the digest of the key itself is stored.

    Attributes:
        id: Name of the key for operators.
        last_characters: Last characters of the key, which identify it for its owner.
        revoked: Time of the revocation; None if the key is valid.
    """

    id: str
    account_id: str
    kind: str
    created: datetime
    last_characters: str
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProcessedEvent:
    """Marker of a Stripe event with its outcome.

    Attributes:
        processed: Time of processing.
        created: Time of the event, by Stripe.
        account_id: Account of the event. If no account matches, the account that the event names.
        reason: Reason of the outcome, for the operator.
    """

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
    """All writes of one event, in one transaction.

    Attributes:
        marker: Marker of the event.
        rows: New versions of subscriptions and invoices.
        outbound: Events for the account's own systems.
        profile: New profile, with the `version` that was read; None if it does not change.
        new_customer_id: Stripe customer that the event assigns to the account.
    """

    marker: ProcessedEvent
    rows: Sequence[StoredObject[Snapshot]] = ()
    outbound: Sequence[OutboundEvent] = ()
    profile: Profile | None = None
    new_customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class EventContext:
    """Stored state that an event refers to.

    Attributes:
        outcome: Outcome in the event's marker; None if the event is new.
        account_of_customer: Account that the customer belongs to.
        profile: Profile of the account that was asked for.
        rows: Stored subscriptions and invoices by id.
        named: Profile of the account that the event names, if it is not the customer's account.
    """

    outcome: EventOutcome | None
    account_of_customer: str | None
    profile: Profile | None
    rows: Mapping[str, StoredObject[Snapshot]]
    named: Profile | None = None


class Repository:
    """Accounts, API keys, invoices and processed events. Every method raises StoreUnavailable if DynamoDB fails."""

    def __init__(self, table: Table) -> None:
        """Create a repository on the table of any DynamoDB engine."""
        self._table = table

    # --- Accounts -----------------------------------------------------------------------------------------------------

    def load_account(self, account_id: str) -> Account:
        """Return an account with its subscriptions and gauges, in one strongly consistent Query.

        An account without any item is an empty account.
        """
        items = self._table.query(f"ACCOUNT#{account_id}", "PROFILE", f"{GAUGE_PREFIX}~")
        profile = next((PROFILE.decode(item) for item in items if item["sk"] == "PROFILE"), Profile(account_id))
        subscriptions = tuple(SUBSCRIPTION.decode(item) for item in items if item["sk"].startswith("SUB#"))
        gauges = {
            item["sk"].removeprefix(GAUGE_PREFIX): item["used"] for item in items if item["sk"].startswith(GAUGE_PREFIX)
        }
        return Account(profile, subscriptions, {**GAUGE_DEFAULTS, **gauges})

    def load_subscription_rows(self, account_id: str) -> Mapping[str, StoredObject[Snapshot]]:
        """Return the stored subscriptions of an account by id."""
        rows = [_stored_object(item) for item in self._table.query(f"ACCOUNT#{account_id}", "SUB#", "SUB#~")]
        return {row.content.id: row for row in rows}

    def create_account(self, profile: Profile, *, audit_entry: ProcessedEvent | None = None) -> None:
        """Create an account with a new nonce. If the profile has a Stripe customer, assign it to the account.

        Raises:
            VersionConflict: The account exists, or the customer belongs to another account.
        """
        created = replace(profile, version=1, nonce=secrets.token_hex(16))
        writes = {"profile": _put_profile(created, expected_version=0)}
        if profile.customer_id:
            writes["customer"] = _put_customer(profile.customer_id, profile.account_id)
        if audit_entry:
            writes["audit entry"] = _put_audit_entry(audit_entry)
        self._transact(writes)

    def save_profile(
        self, profile: Profile, *, new_customer_id: str | None = None, audit_entry: ProcessedEvent | None = None
    ) -> Profile:
        """Write a profile over the version that was read.

        Args:
            profile: Profile with the version that was read.
            new_customer_id: Stripe customer to assign to the account in the same transaction.
            audit_entry: Entry about an operator's action, for the account's events.

        Returns:
            The profile with its new version.

        Raises:
            VersionConflict: The stored version is another one, or the customer belongs to another account.
        """
        saved = replace(profile, version=profile.version + 1)
        writes = {"profile": _put_profile(saved, expected_version=profile.version)}
        if new_customer_id:
            writes["customer"] = _put_customer(new_customer_id, profile.account_id)
        if audit_entry:
            writes["audit entry"] = _put_audit_entry(audit_entry)
        self._transact(writes)
        return saved

    # --- Customers that an operator unlinks ---------------------------------------------------------------------------

    def unlink_customer(self, profile: Profile, customer_id: str, audit_entry: ProcessedEvent) -> None:
        """Remove the link of a customer and write the profile, in one transaction.

        From then on, no new row of the customer can be written (see `commit`). `delete_rows` removes the present ones.

        Args:
            profile: Profile without the customer, with the version that was read.
            customer_id: Customer of the account.
            audit_entry: Entry about the operator's action.

        Raises:
            VersionConflict: The stored version is another one, or the customer does not belong to the account.
        """
        saved = replace(profile, version=profile.version + 1)
        link, values = key(f"CUSTOMER#{customer_id}", "ACCOUNT"), {":account_id": profile.account_id}
        self._transact(
            {
                "profile": _put_profile(saved, expected_version=profile.version),
                "customer": delete(link, "account_id = :account_id", values),
                "audit entry": _put_audit_entry(audit_entry),
            }
        )

    def find_rows_of_customer(self, account_id: str, customer_id: str) -> Sequence[StoredObject[Snapshot]]:
        """Return the stored subscriptions and invoices of one of an account's customers."""
        items = [
            item for kind in ("SUB#", "INV#") for item in self._table.query(f"ACCOUNT#{account_id}", kind, f"{kind}~")
        ]
        return [_stored_object(item) for item in items if item["customer_id"] == customer_id]

    def delete_rows(self, account_id: str, rows: Iterable[StoredObject[Snapshot]]) -> None:
        """Delete stored subscriptions and invoices, whatever their version is by now."""
        pk = f"ACCOUNT#{account_id}"
        for batch in batched(rows, TRANSACTION_WRITES_MAX, strict=False):
            self._transact({row.content.id: delete(key(pk, _row_sk(_ref(row)))) for row in batch})

    # --- Invoices -----------------------------------------------------------------------------------------------------

    def list_invoices(
        self, account_id: str, limit: int, *, status: str | None = None, after: str | None = None
    ) -> InvoicePage:
        """Return at most `limit` issued invoices, newest first, in one Query.

        Drafts are left out, and so is every other status if `status` is given. A page can therefore have fewer invoices
        than `limit`, or none, and still have a next page.

        Args:
            account_id: Account.
            limit: Largest number of invoices.
            status: Stripe status of the invoices; None for all.
            after: Position after which the page begins; None for the first page.
        """
        page = self._table.query_latest(
            f"ACCOUNT#{account_id}",
            "INV#",
            "INV#~",
            limit=FILTERED_ROWS_MAX if status else limit + 1,
            filters={"status": status} if status else None,
            before=f"INV#{after}" if after else None,
        )
        items = page.items[:limit]
        last = items[-1]["sk"] if len(page.items) > limit else page.continues_after
        invoices = [INVOICE.decode(item) for item in items]
        return InvoicePage(
            [invoice for invoice in invoices if invoice.is_issued], last.removeprefix("INV#") if last else None
        )

    # --- API keys -----------------------------------------------------------------------------------------------------

    def find_key(self, digest: str) -> KeyRecord | None:
        """Return the key with this SHA-256 digest, also if it is revoked; None if there is none."""
        item = self._table.get(f"KEY#{digest}", "KEY")
        return KEY_RECORD.decode(item) if item else None

    def create_key(self, digest: str, record: KeyRecord) -> None:
        """Store a key under its digest and in its account's list.

        Raises:
            VersionConflict: A key with this digest exists.
        """
        attributes = KEY_RECORD.encode(record)
        listed = key(f"ACCOUNT#{record.account_id}", f"KEY#{record.id}") | attributes | {"digest": digest}
        self._transact(
            {
                "key": put(key(f"KEY#{digest}", "KEY") | attributes, "attribute_not_exists(pk)"),
                "key of the account": put(listed),
            }
        )

    def list_keys(self, account_id: str) -> list[KeyRecord]:
        """Return all keys of an account, also the revoked ones."""
        return [KEY_RECORD.decode(item) for item in self._table.query(f"ACCOUNT#{account_id}", "KEY#", "KEY#~")]

    def revoke_key(self, account_id: str, key_id: str, now: datetime) -> KeyRecord | None:
        """Revoke a key permanently. Returns the revoked key; None if the account has no such key."""
        item = next(
            (item for item in self._table.query(f"ACCOUNT#{account_id}", "KEY#", "KEY#~") if item["id"] == key_id), None
        )
        if item is None:
            return None
        revocation = "SET revoked = if_not_exists(revoked, :now)", {":now": to_seconds(now)}
        self._transact(
            {
                "key": update(key(f"KEY#{item['digest']}", "KEY"), *revocation),
                "key of the account": update(key(f"ACCOUNT#{account_id}", f"KEY#{key_id}"), *revocation),
            }
        )
        record = KEY_RECORD.decode(item)
        return replace(record, revoked=record.revoked or now)

    # --- Stripe events ------------------------------------------------------------------------------------------------

    def read_event_context(
        self, event_id: str, customer_id: str, account_id: str | None, targets: Sequence[ObjectRef]
    ) -> EventContext:
        """Return the stored state that an event refers to, in one strongly consistent BatchGetItem.

        Args:
            event_id: Event, for its marker.
            customer_id: Stripe customer, for its account.
            account_id: Account whose profile and rows are read; None to read neither.
            targets: Subscriptions and invoices of the event.
        """
        keys = [key(f"EVENT#{event_id}", "RECEIVED"), key(f"CUSTOMER#{customer_id}", "ACCOUNT")]
        if account_id:
            keys.append(key(f"ACCOUNT#{account_id}", "PROFILE"))
            keys += [key(f"ACCOUNT#{account_id}", _row_sk(target)) for target in targets]
        found = {(item["pk"], item["sk"]): item for item in self._table.batch_get(keys)}
        marker = found.get((f"EVENT#{event_id}", "RECEIVED"))
        customer = found.get((f"CUSTOMER#{customer_id}", "ACCOUNT"))
        profile = found.get((f"ACCOUNT#{account_id}", "PROFILE"))
        rows = [_stored_object(item) for (_, sk), item in found.items() if sk.startswith(("SUB#", "INV#"))]
        return EventContext(
            outcome=EventOutcome(marker["outcome"]) if marker else None,
            account_of_customer=customer["account_id"] if customer else None,
            profile=PROFILE.decode(profile) if profile else None,
            rows={row.content.id: row for row in rows},
        )

    def commit(self, commit: Commit) -> None:
        """Write an event's marker and its whole effect in one transaction.

        Raises:
            EventAlreadyProcessed: The event's marker exists with a final outcome.
            VersionConflict: A row or the profile changed after it was read, the new customer has an account, or the
                customer of a new row was unlinked.
        """
        account_id = commit.marker.account_id
        writes = {"marker": _put_marker(commit.marker)}
        writes |= {f"row {row.content.id}": _put_row(f"ACCOUNT#{account_id}", row) for row in commit.rows}
        writes |= {f"outbound {each.id}": put_outbound(each, commit.marker.processed) for each in commit.outbound}
        if commit.profile:
            saved = replace(commit.profile, version=commit.profile.version + 1)
            writes["profile"] = _put_profile(saved, expected_version=commit.profile.version)
        if commit.new_customer_id and account_id:
            writes["customer"] = _put_new_customer(commit.new_customer_id, account_id)
        elif commit.marker.customer_id and account_id and any(row.version == 1 for row in commit.rows):
            writes["customer"] = _check_customer(commit.marker.customer_id, account_id)
        try:
            self._table.transact(writes)
        except WriteRejected as error:
            raise (EventAlreadyProcessed if error.condition_failed("marker") else VersionConflict) from error

    # --- Processed events, for the operator ---------------------------------------------------------------------------

    def find_markers(self, event_ids: Iterable[str]) -> Mapping[str, ProcessedEvent]:
        """Return the markers of at most 100 events by event id. Unknown events are left out."""
        found = self._batch_get({f"EVENT#{event_id}": "RECEIVED" for event_id in event_ids})
        return {item["event_id"]: PROCESSED_EVENT.decode(item) for item in found}

    def list_open_events(self, outcome: EventOutcome, since: datetime, until: datetime) -> Iterator[ProcessedEvent]:
        """Yield the events with an outcome that is not final, the last processed first."""
        return self._list_events(f"{OPEN_OUTCOME_PREFIX}{outcome}", since, until)

    def list_account_events(self, account_id: str, since: datetime, until: datetime) -> Iterator[ProcessedEvent]:
        """Yield the events of an account with a final outcome, the last processed first."""
        return self._list_events(f"ACCOUNT#{account_id}", since, until)

    def _list_events(self, listed_under: str, since: datetime, until: datetime) -> Iterator[ProcessedEvent]:
        bounds = ("processed", to_seconds(since), to_seconds(until))
        return map(
            PROCESSED_EVENT.decode, self._table.query_index(EVENTS_INDEX, ("listed_under", listed_under), bounds)
        )

    # --- Reconciliation: one BatchGetItem for a page of Stripe's lists, at most 100 items -----------------------------

    def find_owners(self, customer_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the accounts of at most 100 Stripe customers by customer id."""
        found = self._batch_get({f"CUSTOMER#{customer_id}": "ACCOUNT" for customer_id in customer_ids})
        return {item["pk"].removeprefix("CUSTOMER#"): item["account_id"] for item in found}

    def find_profiles(self, account_ids: Iterable[str]) -> Mapping[str, Profile]:
        """Return the stored profiles of at most 100 accounts by account id."""
        found = self._batch_get({f"ACCOUNT#{account_id}": "PROFILE" for account_id in account_ids})
        return {profile.account_id: profile for profile in map(PROFILE.decode, found)}

    def find_rows(self, targets: Iterable[tuple[str, ObjectRef]]) -> Mapping[str, StoredObject[Snapshot]]:
        """Return at most 100 stored subscriptions and invoices by id; each target has the id of its account."""
        keys = [key(f"ACCOUNT#{account_id}", _row_sk(target)) for account_id, target in targets]
        rows = [_stored_object(item) for item in self._table.batch_get(keys)] if keys else []
        return {row.content.id: row for row in rows}

    def _batch_get(self, sk_by_pk: Mapping[str, str]) -> list[Item]:
        return self._table.batch_get([key(pk, sk) for pk, sk in sk_by_pk.items()]) if sk_by_pk else []

    def list_live_subscriptions(self, account_id: str | None = None) -> Iterator[tuple[str, Subscription]]:
        """Yield the live subscriptions, of other products too, each with its account id.

        Args:
            account_id: Account; None for all accounts, which scans the table.
        """
        items = self._table.query(f"ACCOUNT#{account_id}", "SUB#", "SUB#~") if account_id else self._table.scan("SUB#")
        for item in items:
            subscription = SUBSCRIPTION.decode(item)
            if subscription.live:
                yield item["pk"].removeprefix("ACCOUNT#"), subscription

    def _transact(self, writes: Mapping[str, Write]) -> None:
        try:
            self._table.transact(writes)
        except WriteRejected as error:
            raise VersionConflict from error


# --- Writes -----------------------------------------------------------------------------------------------------------


def _put_profile(profile: Profile, *, expected_version: int) -> Write:
    return put_version(key(f"ACCOUNT#{profile.account_id}", "PROFILE") | PROFILE.encode(profile), expected_version)


def _put_customer(customer_id: str, account_id: str) -> Write:
    """Return a write that assigns a customer permanently. Assigning it again to the same account is no conflict."""
    item = key(f"CUSTOMER#{customer_id}", "ACCOUNT") | {"account_id": account_id}
    return put(item, "attribute_not_exists(pk) OR account_id = :account_id", {":account_id": account_id})


def _put_new_customer(customer_id: str, account_id: str) -> Write:
    """Return a write that assigns a customer that had no account when it was read.

    The customer may have been assigned since then, and even deleted.
    """
    item = key(f"CUSTOMER#{customer_id}", "ACCOUNT") | {"account_id": account_id}
    return put(item, "attribute_not_exists(pk)")


def _check_customer(customer_id: str, account_id: str) -> Write:
    """Return the condition that a customer still belongs to its account.

    Only new rows need it. When an operator unlinks a customer, its present rows are deleted, and a write that read one
    of them before fails on the row's version.
    """
    return check(key(f"CUSTOMER#{customer_id}", "ACCOUNT"), "account_id = :account_id", {":account_id": account_id})


def _put_row(pk: str, row: StoredObject[Snapshot]) -> Write:
    content = row.content
    attributes = INVOICE.encode(content) if isinstance(content, Invoice) else SUBSCRIPTION.encode(content)
    interval = {"seen_from": to_seconds(row.seen_from), "seen_to": to_seconds(row.seen_to), "version": row.version}
    if row.sequence:
        interval["sequence"] = row.sequence
    item = key(pk, _row_sk(_ref(row))) | attributes | interval
    return put_version(item, row.version - 1)


def _put_marker(marker: ProcessedEvent) -> Write:
    """Return a write that is rejected if the event already has a final outcome.

    | delivery | result |
    |---|---|
    | first | there is no item: it is written |
    | repeated later | the reader finds the marker, and this write does not happen |
    | repeated at the same time | both readers find no marker: one of the two writes is rejected |
    | of an event whose outcome is not final, such as unknown_customer | the item is replaced |
    """
    item = key(f"EVENT#{marker.event_id}", "RECEIVED") | PROCESSED_EVENT.encode(marker)
    item["expires_at"] = to_seconds(marker.processed + EVENT_RETENTION)
    if listed_under := _listed_under(marker):
        item["listed_under"] = listed_under
    open_outcomes = {f":{outcome}": outcome.value for outcome in EventOutcome if not outcome.is_final}
    return put(item, f"attribute_not_exists(pk) OR outcome IN ({', '.join(open_outcomes)})", open_outcomes)


def _put_audit_entry(entry: ProcessedEvent) -> Write:
    """Return a write of an operator's action. It does not expire."""
    item = key(f"EVENT#{entry.event_id}", "RECEIVED") | PROCESSED_EVENT.encode(entry)
    return put(item | {"listed_under": _listed_under(entry)}, "attribute_not_exists(pk)")


def _listed_under(marker: ProcessedEvent) -> str | None:
    """Return the partition of the events index: by outcome if it is not final, else by account; None for no entry."""
    if not marker.outcome.is_final:
        return f"{OPEN_OUTCOME_PREFIX}{marker.outcome}"
    return f"ACCOUNT#{marker.account_id}" if marker.account_id else None


# --- Items ------------------------------------------------------------------------------------------------------------

PROFILE = ItemCodec(
    Profile,
    plain=("account_id", "version", "nonce", "customer_id", "email", "trial_used"),
    times=("created",),
    tuples=("live_subscription_ids", "confirmed_customers", "unlinked_customers"),
    nested={"open_checkout": ItemCodec(OpenCheckout, plain=("session_id", "fingerprint"))},
)
KEY_RECORD = ItemCodec(KeyRecord, plain=("id", "account_id", "kind", "last_characters"), times=("created", "revoked"))
PROCESSED_EVENT = ItemCodec(
    ProcessedEvent,
    plain=("event_id", "type", "account_id", "customer_id", "reason"),
    times=("processed", "created"),
    enums={"outcome": EventOutcome},
)
SUBSCRIPTION = ItemCodec(
    Subscription,
    plain=(
        "id",
        "customer_id",
        "status",
        "plan",
        "price_id",
        "quantity",
        "cancel_at_period_end",
        "price_is_mapped",
        "pause_collection",
        "unit_amount",
        "currency",
        "interval",
        "interval_count",
        "is_per_seat",
        "schedule_id",
        "conflicting_account_id",
    ),
    times=(
        "created",
        "current_period_start",
        "current_period_end",
        "cancel_at",
        "canceled_at",
        "ended_at",
        "trial_end",
        "past_due_since",
        "pause_resumes_at",
    ),
    nested={
        "pending_change": ItemCodec(
            PendingChange, plain=("plan", "price_id", "quantity", "is_per_seat"), times=("effective_at",)
        )
    },
)
INVOICE = ItemCodec(
    Invoice,
    plain=(
        "id",
        "customer_id",
        "subscription_id",
        "status",
        "number",
        "currency",
        "total",
        "amount_due",
        "amount_paid",
        "amount_remaining",
        "attempt_count",
        "hosted_invoice_url",
        "invoice_pdf",
    ),
    times=("created", "period_start", "period_end"),
)


def _row_sk(target: ObjectRef) -> str:
    if isinstance(target.snapshot, Invoice):
        return f"INV#{to_seconds(target.snapshot.created):012d}#{target.id}"
    return f"SUB#{target.id}"


def _ref(row: StoredObject[Snapshot]) -> ObjectRef:
    return ObjectRef(type(row.content), row.content.id, row.content)


def _stored_object(item: Item) -> StoredObject[Snapshot]:
    content = INVOICE.decode(item) if item["sk"].startswith("INV#") else SUBSCRIPTION.decode(item)
    interval = from_seconds(item["seen_from"]), from_seconds(item["seen_to"])
    return StoredObject(content, *interval, item["version"], item.get("sequence", 0))
