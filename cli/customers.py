"""Whose the customers of an existing Stripe account are: what a CSV file and Stripe say, and what is stored of it."""

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING

from billing.adapters.repository import Repository, VersionConflict
from billing.domain.accounts import Profile
from billing.domain.identifiers import is_id
from billing.stripe_events import objects
from billing.stripe_events.customer_links import METADATA, LinkAction, LinkDecision, LinkRequest, decide_link, skip
from billing.stripe_events.objects import Json
from cli.failures import refuse

if TYPE_CHECKING:
    from billing.adapters.stripe_gateway import Listing

COLUMNS = {"customer", "account_id"}
LINE = "line "
BATCH = 100
CHANGED = "it was changed meanwhile; run the import again"

type Show = Callable[[str], None]
type ListPage = Callable[[str | None], "Listing"]


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a file says: wishes by their customers, and lines that are skipped, whose customers have no wish at all."""

    requests: Mapping[str, LinkRequest]
    skipped: Sequence[LinkDecision]


@dataclass(frozen=True, slots=True)
class Wishes:
    """Which customers are to be whose; those of which nobody says it are only counted."""

    requests: Sequence[LinkRequest]
    skipped: Sequence[LinkDecision]
    unnamed: int


# --- what the file says -----------------------------------------------------------------------------------------------


def read_mapping(path: Path | None) -> Mapped:
    """Which account each customer is to have by a CSV file. Raises CommandFailed."""
    lines = list(_lines(path)) if path else []
    by_customer: defaultdict[str, list[LinkRequest]] = defaultdict(list)
    for line, _ in lines:
        by_customer[line.customer_id].append(line)
    faults = [(line, fault or _contradiction(line, by_customer[line.customer_id])) for line, fault in lines]
    skipped = [skip(line, fault) for line, fault in faults if fault]
    refused = {each.request.customer_id for each in skipped}
    return Mapped({name: requests[0] for name, requests in by_customer.items() if name not in refused}, skipped)


def place(decision: LinkDecision) -> float:
    """Where a decision is told: in the order of the file, and after it what only metadata says."""
    origin = decision.request.origin
    return math.inf if origin == METADATA else int(origin.removeprefix(LINE))


def _lines(path: Path) -> Iterator[tuple[LinkRequest, str | None]]:
    """What each line says, and what is wrong with it. Raises CommandFailed."""
    begins = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            if not set(reader.fieldnames or ()) >= COLUMNS:
                refuse("mapping_unreadable", f"{path} must begin with the line: customer,account_id")
            begins = reader.line_num + 1
            for row in reader:
                request = LinkRequest(
                    row["customer"].strip(), row["account_id"].strip(), None, f"{LINE}{reader.line_num}"
                )
                yield request, "it has more fields than the first line" if None in row else _what_is_wrong(request)
                begins = reader.line_num + 1
    except UnicodeDecodeError as error:
        refuse("mapping_unreadable", f"{path} is not UTF-8: {error}")
    except csv.Error as error:
        refuse("mapping_unreadable", f"{path} is not CSV: {error}, in what begins on line {begins}")


def _what_is_wrong(line: LinkRequest) -> str | None:
    if not is_id(line.customer_id):
        return "this is no Stripe customer"
    if not is_id(line.account_id):
        return "an account id has 1 to 255 visible ASCII characters, and no #"
    return None


def _contradiction(line: LinkRequest, same_customer: Sequence[LinkRequest]) -> str | None:
    other = next((each for each in same_customer if each.account_id != line.account_id), None)
    return f"{other.origin} says otherwise" if other else None


# --- what Stripe says -------------------------------------------------------------------------------------------------


def find_wishes(list_customers: ListPage, mapped: Mapped, show: Show) -> Wishes:
    """What the file and, where it is silent, the metadata of all customers ask for. Raises StripeFailed."""
    requests: list[LinkRequest] = []
    skipped = [*mapped.skipped]
    unnamed = 0
    refused = {each.request.customer_id for each in mapped.skipped}
    found: set[str] = set()
    for customer in _customers(list_customers, show):
        found.add(customer["id"])
        request = _wish(customer, mapped.requests.get(customer["id"]))
        if request is None:
            unnamed += customer["id"] not in refused
        elif request.customer_id in refused:
            skipped.append(skip(request, "a line of the file names it, and is skipped"))
        elif is_id(request.account_id):
            requests.append(request)
        else:
            skipped.append(skip(request, "this can be no account id"))
    unknown = [
        skip(request, "Stripe has no such customer") for name, request in mapped.requests.items() if name not in found
    ]
    return Wishes(requests, [*skipped, *unknown], unnamed)


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


def _wish(customer: Json, line: LinkRequest | None) -> LinkRequest | None:
    email = objects.text(customer, "email")
    if line:
        return replace(line, email=email)
    account_id = objects.mapping(customer, METADATA).get("account_id")
    return LinkRequest(customer["id"], str(account_id), email, METADATA) if account_id else None


# --- what is stored, and what is written ------------------------------------------------------------------------------


def plan_links(repository: Repository, requests: Wishes) -> list[LinkDecision]:
    """What becomes of each wish, by what is stored. What is skipped keeps others from the account that it names."""
    of_account: defaultdict[str, list[LinkRequest]] = defaultdict(list)
    for request in (*requests.requests, *(each.request for each in requests.skipped)):
        of_account[request.account_id].append(request)
    decisions = [*requests.skipped]
    for batch in batched(requests.requests, BATCH, strict=False):
        owners = repository.find_owners({request.customer_id for request in batch})
        profiles = repository.find_profiles({request.account_id for request in batch})
        decisions += [
            decide_link(
                request,
                owners.get(request.customer_id),
                profiles.get(request.account_id),
                of_account[request.account_id],
            )
            for request in batch
        ]
    return decisions


def write_links(repository: Repository, decisions: Sequence[LinkDecision], show: Show) -> list[LinkDecision]:
    """Write what was decided, each link on its own; what somebody else changed meanwhile is skipped."""
    written: list[LinkDecision] = []
    for number, decision in enumerate(decisions, 1):
        written.append(_write_link(repository, decision))
        show(f"{number:,} of {len(decisions):,} customers linked")
    return written


def _write_link(repository: Repository, decision: LinkDecision) -> LinkDecision:
    request = decision.request
    try:
        match decision.link:
            case LinkAction.CREATED:
                now = datetime.now(UTC)
                repository.create_account(
                    Profile(request.account_id, customer_id=request.customer_id, email=request.email, created=now)
                )
            case LinkAction.LINKED:
                [profile] = repository.find_profiles([request.account_id]).values()
                if profile.customer_id is not None:
                    return skip(request, CHANGED)
                linked = replace(profile, customer_id=request.customer_id, email=profile.email or request.email)
                repository.save_profile(linked, new_customer_id=request.customer_id)
    except VersionConflict:
        return skip(request, CHANGED)
    return decision
