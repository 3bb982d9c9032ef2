"""Links between Stripe customers and accounts that `billing import` plans and writes.

1. Read the mapping file, if there is one.
2. Collect a link request for each customer, from the file or from the customer's metadata.
3. Decide each request by the stored accounts and the other requests.
4. Write the links.
5. Write account and deployment into the customers' metadata in Stripe.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING

from billing.adapters.repository import ProcessedEvent, Repository, VersionConflict
from billing.domain.accounts import Profile
from billing.domain.deployment import Deployment
from billing.domain.identifiers import is_id
from billing.stripe_events import objects
from billing.stripe_events.customer_links import (
    METADATA,
    LinkAction,
    LinkDecision,
    LinkRequest,
    StripeCustomer,
    decide_link,
    find_other_account,
    find_other_deployment,
    skip,
)
from billing.stripe_events.objects import Json
from cli.customer_linking import LINKED, audit_entry
from cli.customer_metadata import add_missing_metadata
from cli.errors import CommandFailed
from cli.output import ShowProgress

if TYPE_CHECKING:
    from billing.adapters.stripe_gateway import Listing, StripeGateway

COLUMNS = {"customer", "account_id"}
LINE_ORIGIN = "line "
BATCH_SIZE = 100
CHANGED = "it changed during the import; run the import again"

type ListCustomers = Callable[[str | None], "Listing"]


@dataclass(frozen=True, slots=True)
class FileMapping:
    """Content of a mapping file.

    Attributes:
        requests: Valid lines by customer id.
        skipped: Invalid lines. Their customers are not imported, whatever their metadata says.
    """

    requests: Mapping[str, LinkRequest]
    skipped: Sequence[LinkDecision]


@dataclass(frozen=True, slots=True)
class LinkRequests:
    """Link requests of all customers.

    Attributes:
        unnamed: Number of customers that neither the file nor their metadata assigns to an account.
        other_deployments: Number of customers of other deployments.
    """

    requests: Sequence[LinkRequest]
    skipped: Sequence[LinkDecision]
    unnamed: int
    other_deployments: int


@dataclass(frozen=True, slots=True)
class LinkRules:
    """Rules for customers whose metadata contradicts a request.

    Attributes:
        deployment: Deployment of the accounts. Customers of others are left out.
        takes_over: True if a line of the file applies although the customer's metadata names another account.
    """

    deployment: Deployment
    takes_over: bool

    def find_refusal(self, customer: Json, line: LinkRequest | None) -> str | None:
        """Return why a customer is left out; None if it is not."""
        found = StripeCustomer(customer["id"], objects.account_id_of(customer), objects.deployment_id_of(customer))
        reason = find_other_deployment(found, self.deployment)
        if reason or line is None or self.takes_over:
            return reason
        contradiction = find_other_account(found, line.account_id)
        return contradiction and f"{contradiction}; correct it in Stripe, or use --take-over"


# --- Mapping file -----------------------------------------------------------------------------------------------------


def read_mapping(path: Path | None) -> FileMapping:
    """Read a mapping file in CSV format. Raises CommandFailed."""
    lines = list(_read_lines(path)) if path else []
    by_customer: defaultdict[str, list[LinkRequest]] = defaultdict(list)
    for line, _ in lines:
        by_customer[line.customer_id].append(line)
    errors = [(line, error or _find_contradiction(line, by_customer[line.customer_id])) for line, error in lines]
    skipped = [skip(line, error) for line, error in errors if error]
    skipped_customers = {each.request.customer_id for each in skipped}
    valid = {name: requests[0] for name, requests in by_customer.items() if name not in skipped_customers}
    return FileMapping(valid, skipped)


def report_position(decision: LinkDecision) -> float:
    """Return the sort key of a skipped customer: lines in the order of the file, then metadata."""
    origin = decision.request.origin
    return math.inf if origin == METADATA else int(origin.removeprefix(LINE_ORIGIN))


def _read_lines(path: Path) -> Iterator[tuple[LinkRequest, str | None]]:
    """Yield each line with its error. Raises CommandFailed."""
    begins = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            _check_header(path, reader.fieldnames)
            begins = reader.line_num + 1
            for row in reader:
                origin = f"{LINE_ORIGIN}{reader.line_num}"
                request = LinkRequest(row["customer"].strip(), row["account_id"].strip(), None, origin)
                yield request, "it has more fields than the first line" if None in row else _find_error(request)
                begins = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise CommandFailed("mapping_unreadable", f"{path} is not UTF-8: {error}") from error
    except csv.Error as error:
        message = f"{path} is not valid CSV: {error}, in the record that starts on line {begins}"
        raise CommandFailed("mapping_unreadable", message) from error


def _check_header(path: Path, names: Sequence[str] | None) -> None:
    if not set(names or ()) >= COLUMNS:
        raise CommandFailed("mapping_unreadable", f"The first line of {path} must be: customer,account_id")


def _find_error(line: LinkRequest) -> str | None:
    if not is_id(line.customer_id):
        return "the customer id is invalid"
    if not is_id(line.account_id):
        return "the account id is invalid: it has 1 to 255 visible ASCII characters without #"
    return None


def _find_contradiction(line: LinkRequest, same_customer: Sequence[LinkRequest]) -> str | None:
    other = next((each for each in same_customer if each.account_id != line.account_id), None)
    return f"{other.origin} names another account" if other else None


# --- Customers in Stripe ----------------------------------------------------------------------------------------------


def collect_requests(
    list_customers: ListCustomers, mapping: FileMapping, show: ShowProgress, rules: LinkRules
) -> LinkRequests:
    """Collect the link requests of the file and of the metadata of all customers. Raises StripeFailed."""
    requests: list[LinkRequest] = []
    skipped = [*mapping.skipped]
    unnamed = other_deployments = 0
    skipped_customers = {each.request.customer_id for each in mapping.skipped}
    found: set[str] = set()
    for customer in _customers(list_customers, show):
        found.add(customer["id"])
        line = mapping.requests.get(customer["id"])
        reason = rules.find_refusal(customer, line)
        request = _request_of(customer, line)
        if reason and line:
            skipped.append(skip(line, reason))
        elif reason:
            other_deployments += 1
        elif request is None:
            unnamed += customer["id"] not in skipped_customers
        elif request.customer_id in skipped_customers:
            skipped.append(skip(request, "a line of the file names it and is skipped"))
        elif is_id(request.account_id):
            requests.append(replace(request, confirmed=line is not None and rules.takes_over))
        else:
            skipped.append(skip(request, "the account id in the metadata is invalid"))
    unknown = [
        skip(request, "Stripe does not have the customer")
        for name, request in mapping.requests.items()
        if name not in found
    ]
    return LinkRequests(requests, [*skipped, *unknown], unnamed, other_deployments)


def _customers(list_customers: ListCustomers, show: ShowProgress) -> Iterator[Json]:
    after, count = None, 0
    while True:
        listing = list_customers(after)
        count += len(listing.objects)
        show(f"{count:,} customers read")
        yield from listing.objects.values()
        after = listing.after
        if after is None:
            return


def _request_of(customer: Json, line: LinkRequest | None) -> LinkRequest | None:
    email, missing = objects.text(customer, "email"), objects.missing_identity_keys(customer)
    if line:
        return replace(line, email=email, missing_metadata=missing)
    account_id = objects.mapping(customer, METADATA).get("account_id")
    if not account_id:
        return None
    return LinkRequest(customer["id"], str(account_id), email, METADATA, missing_metadata=missing)


# --- Decisions and writes ---------------------------------------------------------------------------------------------


def plan_links(repository: Repository, requests: LinkRequests) -> list[LinkDecision]:
    """Decide each request by the stored accounts and the other requests.

    A skipped request also prevents other customers from being linked to the account that it names.
    """
    by_account: defaultdict[str, list[LinkRequest]] = defaultdict(list)
    for request in (*requests.requests, *(each.request for each in requests.skipped)):
        by_account[request.account_id].append(request)
    decisions = [*requests.skipped]
    for batch in batched(requests.requests, BATCH_SIZE, strict=False):
        owners = repository.find_owners({request.customer_id for request in batch})
        profiles = repository.find_profiles({request.account_id for request in batch})
        decisions += [
            decide_link(
                request,
                owners.get(request.customer_id),
                profiles.get(request.account_id),
                by_account[request.account_id],
            )
            for request in batch
        ]
    return decisions


def write_links(repository: Repository, decisions: Sequence[LinkDecision], show: ShowProgress) -> list[LinkDecision]:
    """Write each link on its own. A link whose account or customer changed in the meantime is skipped."""
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
                created = Profile(request.account_id, email=request.email, created=now)
                linked = created.with_customer(request.customer_id, confirmed=request.confirmed)
                repository.create_account(linked, audit_entry=_audit_entry(request))
            case LinkAction.LINKED:
                [profile] = repository.find_profiles([request.account_id]).values()
                if profile.customer_id is not None:
                    return skip(request, CHANGED)
                linked = profile.with_customer(request.customer_id, confirmed=request.confirmed)
                linked = replace(linked, email=profile.email or request.email)
                customer_id = request.customer_id
                repository.save_profile(linked, new_customer_id=customer_id, audit_entry=_audit_entry(request))
    except VersionConflict:
        return skip(request, CHANGED)
    return decision


def without_metadata(decisions: Iterable[LinkDecision]) -> list[LinkRequest]:
    """Return the requests of linked customers whose metadata lacks the account or the deployment."""
    return [each.request for each in decisions if each.link is not LinkAction.SKIPPED and each.request.missing_metadata]


def write_metadata(
    gateway: "StripeGateway", deployment_id: str, requests: Sequence[LinkRequest], show: ShowProgress
) -> None:
    """Write the missing account and deployment into the metadata of linked customers. Raises CommandFailed."""
    for number, each in enumerate(requests, 1):
        add_missing_metadata(gateway, each.customer_id, each.account_id, deployment_id, each.missing_metadata)
        show(f"metadata of {number:,} of {len(requests):,} customers written")


def _audit_entry(request: LinkRequest) -> ProcessedEvent:
    takes_over = "; taken over, whatever its metadata says" if request.confirmed else ""
    reason = f"linked by an import, from {request.origin}{takes_over}"
    return audit_entry(request.account_id, request.customer_id, LINKED, reason)
