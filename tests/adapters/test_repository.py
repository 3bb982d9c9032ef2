"""Repository on a real DynamoDB engine over HTTP."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from types import GenericAlias, UnionType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.adapters.repository import (
    EVENT_RETENTION,
    Commit,
    EventAlreadyProcessed,
    KeyRecord,
    Repository,
    VersionConflict,
)
from billing.domain.accounts import Account, OpenCheckout, Profile
from billing.domain.invoices import Invoice
from billing.domain.outbound_events import event_id
from billing.domain.subscriptions import PendingChange, Subscription
from billing.stripe_events.event_types import EventOutcome, ObjectRef, Snapshot
from billing.stripe_events.ordering import StoredObject
from tests.adapters.table_support import OUTBOUND, marker, recorded_calls, row, stored_items
from tests.conftest import template
from tests.samples import INVOICE, NOW, SUBSCRIPTION
from tests.sampling import examples

pytestmark = pytest.mark.engine

# --- Transactions -----------------------------------------------------------------------------------------------------


def test_commit_writes_marker_rows_outbound_events_profile_and_customer(
    repository: Repository, acme: Profile, dynamodb: Any, table_name: str
) -> None:
    linked = replace(acme, customer_id="cus_1", trial_used=True)
    repository.commit(Commit(marker(), (row(), row(INVOICE)), (OUTBOUND,), linked, new_customer_id="cus_1"))
    second = int(NOW.timestamp())
    assert set(stored_items(dynamodb, table_name)) == {
        ("ACCOUNT#acme", "PROFILE"),
        ("ACCOUNT#acme", "SUB#sub_1"),
        ("ACCOUNT#acme", f"INV#{second:012d}#in_1"),
        ("ACCOUNT#acme", f"OUT#{OUTBOUND.id}"),
        ("CUSTOMER#cus_1", "ACCOUNT"),
        ("EVENT#evt_1", "RECEIVED"),
    }
    assert repository.load_account("acme") == Account(replace(linked, version=2), (SUBSCRIPTION,))


REJECTED_COMMITS: Mapping[str, tuple[Callable[[Profile], Commit], type[Exception]]] = {
    "marker is final": (lambda acme: Commit(marker("evt_0"), profile=acme), EventAlreadyProcessed),
    "row is newer": (lambda acme: Commit(marker(), (row(version=1),), profile=acme), VersionConflict),
    "row is older": (lambda acme: Commit(marker(), (row(version=3),), profile=acme), VersionConflict),
    "second row does not exist": (
        lambda acme: Commit(marker(), (row(version=2), row(INVOICE, version=2)), profile=acme),
        VersionConflict,
    ),
    "profile is newer": (
        lambda acme: Commit(marker(), (row(version=2),), (OUTBOUND,), replace(acme, version=0)),
        VersionConflict,
    ),
    "customer is assigned": (
        lambda _acme: Commit(marker(account_id="globex"), new_customer_id="cus_of_globex"),
        VersionConflict,
    ),
    "customer belongs to another account": (
        lambda acme: Commit(marker(), (row(version=2),), (OUTBOUND,), acme, new_customer_id="cus_of_globex"),
        VersionConflict,
    ),
}


@pytest.mark.parametrize("case", REJECTED_COMMITS)
def test_rejected_commit_writes_nothing(
    case: str, repository: Repository, acme: Profile, dynamodb: Any, table_name: str
) -> None:
    repository.commit(Commit(marker("evt_0"), (row(),)))
    repository.save_profile(Profile("globex"), new_customer_id="cus_of_globex")
    before = stored_items(dynamodb, table_name)
    commit, error = REJECTED_COMMITS[case]
    with pytest.raises(error):
        repository.commit(commit(acme))
    assert stored_items(dynamodb, table_name) == before


RECORDED = [outcome for outcome in EventOutcome if outcome is not EventOutcome.DUPLICATE]


@pytest.mark.parametrize("first", RECORDED)
def test_only_an_open_outcome_is_replaced(first: EventOutcome, repository: Repository) -> None:
    repository.commit(Commit(marker(outcome=first)))
    if first.is_final:
        with pytest.raises(EventAlreadyProcessed):
            repository.commit(Commit(marker(outcome=EventOutcome.NO_CHANGE)))
    else:
        repository.commit(Commit(marker(outcome=EventOutcome.NO_CHANGE)))
    assert repository.read_event_context("evt_1", "cus_1", None, ()).outcome is (
        first if first.is_final else EventOutcome.NO_CHANGE
    )


def test_row_is_written_only_over_the_version_that_was_read(repository: Repository) -> None:
    for version in (1, 2, 3):
        repository.commit(Commit(marker(f"evt_{version}"), (row(version=version),)))
    with pytest.raises(VersionConflict):
        repository.commit(Commit(marker("evt_late"), (row(version=3),)))
    assert repository.load_subscription_rows("acme")["sub_1"].version == 3


def test_profile_is_written_only_over_the_version_that_was_read(repository: Repository, acme: Profile) -> None:
    saved = repository.save_profile(replace(acme, trial_used=True))
    with pytest.raises(VersionConflict):
        repository.save_profile(replace(acme, email="other@acme.test"))
    repository.save_profile(replace(saved, email="other@acme.test"))
    profile = repository.load_account("acme").profile
    assert (profile.trial_used, profile.email, profile.version) == (True, "other@acme.test", 3)


def test_creation_of_an_existing_account_is_rejected(repository: Repository, acme: Profile) -> None:
    with pytest.raises(VersionConflict):
        repository.create_account(Profile("acme", email="thief@example.com"))
    assert repository.load_account("acme").profile == acme


def test_customer_can_be_assigned_again_only_to_its_own_account(repository: Repository, acme: Profile) -> None:
    linked = repository.save_profile(replace(acme, customer_id="cus_1"), new_customer_id="cus_1")
    repository.save_profile(linked, new_customer_id="cus_1")
    with pytest.raises(VersionConflict):
        repository.save_profile(Profile("globex", customer_id="cus_1"), new_customer_id="cus_1")
    assert repository.read_event_context("evt_1", "cus_1", None, ()).account_of_customer == "acme"
    assert repository.load_account("globex") == Account(Profile("globex"))


# --- Round trips ------------------------------------------------------------------------------------------------------

NUMBERS = itertools.count()
"""Numbers of accounts: each example writes to an account of its own."""

TEXT = st.text(max_size=40)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0)
)
INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1)
OF_TYPE: Mapping[type | UnionType | GenericAlias, st.SearchStrategy[Any]] = {
    str: TEXT,
    str | None: st.none() | TEXT,
    int: INTEGERS,
    int | None: st.none() | INTEGERS,
    bool: st.booleans(),
    datetime: MOMENTS,
    datetime | None: st.none() | MOMENTS,
    tuple[str, ...]: st.lists(TEXT, max_size=3).map(tuple),
    OpenCheckout | None: st.none() | st.builds(OpenCheckout, TEXT, TEXT),
    PendingChange | None: st.none()
    | st.builds(PendingChange, st.none() | TEXT, st.none() | TEXT, st.none() | INTEGERS, MOMENTS, st.booleans()),
}


def any_of[T](cls: type[T], **known: Any) -> st.SearchStrategy[T]:
    """Return a strategy for a dataclass; `known` fields have fixed values."""
    drawn = {each.name: OF_TYPE[each.type] for each in fields(cls) if each.name not in known}  # type: ignore[arg-type,index]
    return st.builds(cls, **drawn, **{name: st.just(value) for name, value in known.items()})


on_one_table = settings(
    max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@on_one_table
@given(content=any_of(Subscription, id="sub_1") | any_of(Invoice, id="in_1"), seen=st.tuples(MOMENTS, MOMENTS))
def test_row_is_read_as_it_was_written(
    repository: Repository, content: Snapshot, seen: tuple[datetime, datetime]
) -> None:
    account_id = f"acme-{next(NUMBERS)}"
    written = StoredObject(content, *seen, version=1)
    repository.commit(Commit(marker(account_id, account_id=account_id), (written,)))
    target = ObjectRef(type(content), content.id, content)
    assert repository.read_event_context("evt", "cus", account_id, (target,)).rows == {content.id: written}


@on_one_table
@given(profile=any_of(Profile, version=0))
def test_profile_is_read_as_it_was_written(repository: Repository, profile: Profile) -> None:
    profile = replace(profile, account_id=f"acme-{next(NUMBERS)}")
    saved = repository.save_profile(profile)
    assert repository.load_account(profile.account_id).profile == saved == replace(profile, version=1)


@on_one_table
@given(record=any_of(KeyRecord))
def test_key_is_read_as_it_was_written_by_digest_and_by_account(repository: Repository, record: KeyRecord) -> None:
    record = replace(record, id="key_1", account_id=f"acme-{next(NUMBERS)}")
    repository.create_key(f"digest-{record.account_id}", record)
    assert repository.find_key(f"digest-{record.account_id}") == record
    assert repository.list_keys(record.account_id) == [record]


@on_one_table
@given(data=st.dictionaries(TEXT.filter(bool), st.none() | st.booleans() | INTEGERS | TEXT, max_size=5))
def test_outbound_event_is_stored_with_all_of_its_data(
    repository: Repository, dynamodb: Any, table_name: str, data: dict[str, str | int | bool | None]
) -> None:
    number = next(NUMBERS)
    outbound = replace(OUTBOUND, id=event_id(NOW, "acme", "sub_1", number), object=data)
    repository.commit(Commit(marker(f"evt_{number}"), outbound=(outbound,)))
    key = {"pk": {"S": "ACCOUNT#acme"}, "sk": {"S": f"OUT#{outbound.id}"}}
    item = dynamodb.get_item(TableName=table_name, Key=key)["Item"]
    plain = {
        name: None if "NULL" in value else next(iter(value.values())) for name, value in item["object"]["M"].items()
    }
    assert plain == {
        name: str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in data.items()
    }
    assert item["type"] == {"S": "subscription.created"}


# --- Reads ------------------------------------------------------------------------------------------------------------


def test_account_without_items_is_empty(repository: Repository) -> None:
    """An account exists as soon as a credential names it."""
    assert repository.load_account("acme") == Account(Profile("acme"))


def test_account_has_all_of_its_subscriptions_and_no_others(repository: Repository, acme: Profile) -> None:
    mine = [replace(SUBSCRIPTION, id=f"sub_{number}") for number in range(3)]
    repository.commit(Commit(marker("evt_1"), (*map(row, mine), row(INVOICE)), (OUTBOUND,)))
    repository.create_key("digest", KeyRecord("key_1", "acme", "secret", NOW, "last"))
    other = row(replace(SUBSCRIPTION, id="sub_other"))
    for account_id in ("acme2", "acm", "globex"):
        repository.commit(Commit(marker(account_id, account_id=account_id), (other,)))
    assert repository.load_account("acme") == Account(acme, tuple(mine))
    assert set(repository.load_subscription_rows("acme")) == {"sub_0", "sub_1", "sub_2"}


def test_query_reads_all_pages(repository: Repository, acme: Profile, dynamodb: Any) -> None:
    rows = [row(replace(SUBSCRIPTION, id=f"sub_{number}")) for number in range(5)]
    repository.commit(Commit(marker(), rows))
    for number in range(5):
        repository.create_key(f"digest_{number}", KeyRecord(f"key_{number}", "acme", "secret", NOW, "last"))
    with recorded_calls(dynamodb, Limit=2) as calls:
        account = repository.load_account("acme")
        keys = repository.list_keys("acme")
    assert calls.count("Query") >= 6
    assert account == Account(acme, tuple(each.content for each in rows if isinstance(each.content, Subscription)))
    assert [key.id for key in keys] == [f"key_{number}" for number in range(5)]


def test_event_context_has_outcome_account_profile_and_stored_rows(repository: Repository, acme: Profile) -> None:
    empty = repository.read_event_context("evt_1", "cus_1", None, ())
    assert (empty.outcome, empty.account_of_customer, empty.profile, empty.rows) == (None, None, None, {})
    linked = replace(acme, customer_id="cus_1")
    repository.commit(Commit(marker(), (row(), row(INVOICE)), profile=linked, new_customer_id="cus_1"))
    targets = (
        ObjectRef(Subscription, "sub_1", SUBSCRIPTION),
        ObjectRef(Invoice, "in_1", INVOICE),
        ObjectRef(Subscription, "sub_none"),
    )
    found = repository.read_event_context("evt_1", "cus_1", "acme", targets)
    assert found.outcome is EventOutcome.APPLIED
    assert found.account_of_customer == "acme"
    assert found.profile == replace(linked, version=2)
    assert found.rows == {"sub_1": row(), "in_1": row(INVOICE)}


# --- API keys ---------------------------------------------------------------------------------------------------------


def test_revoked_key_keeps_the_time_of_its_first_revocation(repository: Repository) -> None:
    record = KeyRecord("key_1", "acme", "secret", NOW, "abcd")
    assert repository.find_key("digest") is None
    repository.create_key("digest", record)
    assert repository.find_key("digest") == record
    revoked = replace(record, revoked=NOW + timedelta(hours=1))
    assert repository.revoke_key("acme", "key_1", NOW + timedelta(hours=1)) == revoked
    assert repository.revoke_key("acme", "key_1", NOW + timedelta(hours=2)) == revoked
    assert repository.find_key("digest") == revoked
    assert repository.list_keys("acme") == [revoked]


def test_key_is_revoked_only_by_its_account_and_id(repository: Repository) -> None:
    record = KeyRecord("key_1", "acme", "secret", NOW, "abcd")
    repository.create_key("digest", record)
    assert repository.revoke_key("globex", "key_1", NOW) is None
    assert repository.revoke_key("acme", "key_2", NOW) is None
    assert repository.find_key("digest") == record


def test_second_key_with_the_same_digest_is_rejected(repository: Repository, dynamodb: Any, table_name: str) -> None:
    repository.create_key("digest", KeyRecord("key_1", "acme", "secret", NOW, "abcd"))
    before = stored_items(dynamodb, table_name)
    with pytest.raises(VersionConflict):
        repository.create_key("digest", KeyRecord("key_2", "globex", "secret", NOW, "abcd"))
    assert stored_items(dynamodb, table_name) == before


# --- Expiry -----------------------------------------------------------------------------------------------------------


def test_only_markers_and_outbound_events_expire(
    repository: Repository, acme: Profile, dynamodb: Any, table_name: str
) -> None:
    """Markers expire after the 30 days in which Stripe resends an event."""
    repository.commit(Commit(marker(), (row(), row(INVOICE)), (OUTBOUND,), acme, new_customer_id="cus_1"))
    repository.create_key("digest", KeyRecord("key_1", "acme", "secret", NOW, "abcd"))
    attribute = template()["Resources"]["Table"]["Properties"]["TimeToLiveSpecification"]["AttributeName"]
    expiring = {
        sk: int(item[attribute]["N"])
        for (_, sk), item in stored_items(dynamodb, table_name).items()
        if attribute in item
    }
    expected = int((NOW + EVENT_RETENTION).timestamp())
    assert expiring == {"RECEIVED": expected, f"OUT#{OUTBOUND.id}": expected}
    assert timedelta(days=30) < EVENT_RETENTION
