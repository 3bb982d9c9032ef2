"""Whose the customers of an existing Stripe account are: what a CSV file and Stripe say, and what is stored of it."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING

from billing.domain import stripe_objects
from billing.domain.accounts import Profile
from billing.domain.customer_links import Decision, Link, Wish, decide
from billing.domain.stripe_objects import Json, is_id
from billing.store import Store, VersionConflict
from cli.failures import refuse

if TYPE_CHECKING:
    from billing.payments import Listing

COLUMNS = {"customer", "account_id"}
BATCH = 100
METADATA = "metadata"
CHANGED = "it was changed meanwhile; run the import again"

type Show = Callable[[str], None]
type ListPage = Callable[[str | None], "Listing"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """What is not taken over, and why. `origin` is a line of the file, or Stripe's metadata."""

    origin: str
    customer_id: str
    account_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wishes:
    """Which customers are to be whose; those of which nobody says it are only counted."""

    wishes: Sequence[Wish]
    skipped: Sequence[Skipped]
    unnamed: int


# --- what the file says -----------------------------------------------------------------------------------------------


def read_mapping(path: Path | None) -> tuple[Mapping[str, tuple[str, str]], list[Skipped]]:
    """By customer its account and the line that says so, and what the file has beside that. Raises CommandFailed."""
    if path is None:
        return {}, []
    named: dict[str, tuple[str, str]] = {}
    skipped: list[Skipped] = []
    for origin, customer_id, account_id in _lines(path):
        reason = _what_is_wrong(customer_id, account_id, named.get(customer_id))
        if reason:
            skipped.append(Skipped(origin, customer_id, account_id, reason))
        else:
            named[customer_id] = (account_id, origin)
    return named, skipped


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            if not set(reader.fieldnames or ()) >= COLUMNS:
                refuse("mapping_unreadable", f"{path} must begin with the line: customer,account_id")
            for row in reader:
                yield f"line {reader.line_num}", row["customer"].strip(), row["account_id"].strip()
    except (UnicodeDecodeError, csv.Error) as error:
        refuse("mapping_unreadable", f"{path} is no CSV file in UTF-8: {error}")


def _what_is_wrong(customer_id: str, account_id: str, before: tuple[str, str] | None) -> str | None:
    if not is_id(customer_id):
        return "this is no Stripe customer"
    if not is_id(account_id):
        return "an account id has 1 to 255 visible ASCII characters, and no #"
    return f"{before[1]} names the same customer" if before else None


# --- what Stripe says -------------------------------------------------------------------------------------------------


def find_wishes(list_customers: ListPage, named: Mapping[str, tuple[str, str]], show: Show) -> Wishes:
    """What the file and, where it is silent, the metadata of all customers ask for. Raises StripeFailed."""
    wishes: list[Wish] = []
    skipped: list[Skipped] = []
    unnamed = 0
    found: set[str] = set()
    for customer in _customers(list_customers, show):
        found.add(customer["id"])
        wish = _wish(customer, named.get(customer["id"]))
        if wish is None:
            unnamed += 1
        elif is_id(wish.account_id):
            wishes.append(wish)
        else:
            skipped.append(Skipped(wish.origin, wish.customer_id, wish.account_id, "this can be no account id"))
    unknown = [
        Skipped(origin, customer_id, account_id, "Stripe has no such customer")
        for customer_id, (account_id, origin) in named.items()
        if customer_id not in found
    ]
    return Wishes(wishes, [*skipped, *unknown], unnamed)


def _customers(list_customers: ListPage, show: Show) -> Iterator[Json]:
    after, count = None, 0
    while True:
        listing = list_customers(after)
        count += len(listing.objects)
        show(f"{count:,} customers read")
        yield from listing.objects.values()
        after = listing.after
        if after is None:
            return


def _wish(customer: Json, named: tuple[str, str] | None) -> Wish | None:
    account_id, origin = named or (stripe_objects.mapping(customer, METADATA).get("account_id"), METADATA)
    if not account_id:
        return None
    return Wish(customer["id"], str(account_id), stripe_objects.text(customer, "email"), origin)


# --- what is stored, and what is written ------------------------------------------------------------------------------


def decide_all(store: Store, wishes: Sequence[Wish]) -> list[Decision]:
    """What becomes of each wish, by what is stored."""
    rivals: defaultdict[str, set[str]] = defaultdict(set)
    for wish in wishes:
        rivals[wish.account_id].add(wish.customer_id)
    decisions: list[Decision] = []
    for batch in batched(wishes, BATCH, strict=False):
        owners = store.find_owners({wish.customer_id for wish in batch})
        profiles = store.find_profiles({wish.account_id for wish in batch})
        decisions += [
            decide(wish, owners.get(wish.customer_id), profiles.get(wish.account_id), rivals[wish.account_id])
            for wish in batch
        ]
    return decisions


def write_links(store: Store, decisions: Sequence[Decision], show: Show) -> list[Decision]:
    """Write what was decided, each link on its own; what somebody else changed meanwhile becomes a conflict."""
    written: list[Decision] = []
    for number, decision in enumerate(decisions, 1):
        written.append(_write_link(store, decision))
        show(f"{number:,} of {len(decisions):,} customers linked")
    return written


def _write_link(store: Store, decision: Decision) -> Decision:
    wish = decision.wish
    try:
        match decision.link:
            case Link.CREATED:
                now = datetime.now(UTC)
                store.create_account(
                    Profile(wish.account_id, customer_id=wish.customer_id, email=wish.email, created=now)
                )
            case Link.LINKED:
                [profile] = store.find_profiles([wish.account_id]).values()
                if profile.customer_id is not None:
                    return replace(decision, link=Link.CONFLICT, reason=CHANGED)
                linked = replace(profile, customer_id=wish.customer_id, email=profile.email or wish.email)
                store.save_profile(linked, new_customer_id=wish.customer_id)
    except VersionConflict:
        return replace(decision, link=Link.CONFLICT, reason=CHANGED)
    return decision
