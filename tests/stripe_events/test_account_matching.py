"""Account matching: the account of an event, and subscriptions that may belong to another account."""

from dataclasses import replace

import pytest

from billing.domain.accounts import Profile
from billing.stripe_events.account_matching import (
    AccountMatch,
    find_conflict,
    find_unlinkable_outcome,
    match_account,
    requires_customer,
)
from billing.stripe_events.customer_links import StripeCustomer
from billing.stripe_events.event_types import EventOutcome, ParsedEvent
from tests.samples import DEPLOYMENT, SUBSCRIPTION

ACME = Profile("acme", version=1, customer_id="cus_1")
WITHOUT_CUSTOMER = replace(ACME, customer_id=None)
GLOBEX = Profile("globex", version=1)
OF_ACME = ParsedEvent("cus_1", "acme")
OF_GLOBEX = ParsedEvent("cus_1", "globex")


def test_metadata_of_another_account_conflicts_until_an_operator_confirms_the_customer() -> None:
    assert match_account(OF_GLOBEX, "acme", ACME) == AccountMatch(ACME, metadata_conflicts=True)
    confirmed = replace(ACME, confirmed_customers=("cus_1",))
    assert match_account(OF_GLOBEX, "acme", confirmed) == AccountMatch(confirmed)


def test_unlinked_customer_is_not_assigned_to_its_former_account() -> None:
    assert match_account(OF_ACME, None, WITHOUT_CUSTOMER) == AccountMatch(WITHOUT_CUSTOMER, assigns_customer=True)
    unlinked = replace(WITHOUT_CUSTOMER, unlinked_customers=("cus_1",))
    assert match_account(OF_ACME, None, unlinked) is EventOutcome.UNKNOWN_CUSTOMER
    assert match_account(replace(OF_ACME, customer_id="cus_2"), None, unlinked) == AccountMatch(
        unlinked, assigns_customer=True
    )


@pytest.mark.parametrize(
    ("named", "account_id", "stored", "conflict"),
    [
        (GLOBEX, "globex", None, "globex"),
        (GLOBEX, None, None, None),
        (GLOBEX, "acme", None, None),
        (None, "globex", None, None),
        (replace(GLOBEX, customer_id="cus_2"), "globex", None, None),
        (replace(GLOBEX, customer_id="cus_2"), "globex", "globex", "globex"),
        (None, "globex", "globex", "globex"),
        (None, "initech", "globex", None),
        (None, None, "globex", None),
    ],
)
def test_conflict_begins_with_an_account_without_customer_and_lasts_while_it_is_named(
    named: Profile | None, account_id: str | None, stored: str | None, conflict: str | None
) -> None:
    matched = AccountMatch(ACME, named=named)
    row = replace(SUBSCRIPTION, conflicting_account_id=stored)
    assert find_conflict(matched, SUBSCRIPTION, account_id, row) == conflict
    confirmed = replace(matched, profile=replace(ACME, confirmed_customers=("cus_1",)))
    assert find_conflict(confirmed, SUBSCRIPTION, account_id, row) is None


def test_customer_is_read_only_for_an_object_without_deployment_that_has_no_linked_customer() -> None:
    named = replace(OF_ACME, deployment_id="billing-test")
    for match, required in (
        (AccountMatch(WITHOUT_CUSTOMER, assigns_customer=True), True),
        (EventOutcome.CUSTOMER_CONFLICT, True),
        (AccountMatch(ACME), False),
        (EventOutcome.UNKNOWN_CUSTOMER, False),
    ):
        assert requires_customer(OF_ACME, match) is required
        assert not requires_customer(named, match)


def test_customer_that_is_deleted_missing_or_of_another_deployment_cannot_be_linked() -> None:
    for customer, outcome in (
        (StripeCustomer("cus_1", None, None), None),
        (StripeCustomer("cus_1", "acme", DEPLOYMENT.id), None),
        (StripeCustomer("cus_1", "acme", "billing-staging"), EventOutcome.IGNORED),
        (StripeCustomer("cus_1", None, None, is_deleted=True), EventOutcome.UNKNOWN_CUSTOMER),
        (None, EventOutcome.UNKNOWN_CUSTOMER),
    ):
        assert find_unlinkable_outcome(customer, DEPLOYMENT) is outcome
