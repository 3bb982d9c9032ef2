"""The table on a real engine over HTTP, with real parallel writers."""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from types import UnionType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.adapters.repository import (
    EVENT_RETENTION,
    Commit,
    EventAlreadyProcessed,
    KeyRecord,
    ProcessedEvent,
    Repository,
    VersionConflict,
)
from billing.domain.accounts import Account, OpenCheckout, Profile
from billing.domain.errors import StripeUnavailable
from billing.domain.invoices import Invoice
from billing.domain.outbound_events import OutboundEvent
from billing.domain.subscriptions import Subscription
from billing.services.event_processor import EventProcessor
from billing.stripe_events.event_types import EventOutcome, FetchedObject, ObjectRef, Snapshot
from billing.stripe_events.objects import parse_invoice, parse_subscription
from billing.stripe_events.ordering import StoredObject
from tests.conftest import template
from tests.protocol import model
from tests.samples import INVOICE, NOW, SUBSCRIPTION
from tests.sampling import examples

pytestmark = pytest.mark.engine

WRITERS = 8
PROCESSORS = 4
OUTBOUND = OutboundEvent("evt_1.sub_1", "subscription.created", "acme", NOW, {"plan": "pro", "ended_at": None})


def marker(
    event_id: str = "evt_1", outcome: EventOutcome = EventOutcome.APPLIED, account_id: str | None = "acme"
) -> ProcessedEvent:
    """An event's marker."""
    return ProcessedEvent(event_id, "customer.subscription.updated", outcome, NOW, account_id=account_id)


def row(content: Snapshot = SUBSCRIPTION, version: int = 1) -> StoredObject[Snapshot]:
    """A row as it is to be written: `version` is one more than that of the row it replaces."""
    return StoredObject(content, NOW, NOW, version)


def items(dynamodb: Any, table_name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """All that the table holds, by its keys."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table_name, ConsistentRead=True)
    return {(item["pk"]["S"], item["sk"]["S"]): item for page in pages for item in page["Items"]}


def in_parallel[T](work: Callable[[int], T], writers: int = WRITERS) -> list[T]:
    """What `writers` threads get that all begin at the same instant."""
    barrier = threading.Barrier(writers)

    def begin(number: int) -> T:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(writers) as pool:
        return list(pool.map(begin, range(writers)))


@pytest.fixture
def acme(repository: Repository) -> Profile:
    """The account that most tests write to."""
    repository.create_account(Profile("acme", email="billing@acme.test"))
    return repository.load_account("acme").profile


# --- one transaction --------------------------------------------------------------------------------------------------


def test_a_commit_writes_all_of_it(repository: Repository, acme: Profile, dynamodb: Any, table_name: str) -> None:
    """Marker, rows, outbound events, profile and customer are all there after a commit."""
    linked = replace(acme, customer_id="cus_1", trial_used=True)
    repository.commit(Commit(marker(), (row(), row(INVOICE)), (OUTBOUND,), linked, new_customer_id="cus_1"))
    second = int(NOW.timestamp())
    assert set(items(dynamodb, table_name)) == {
        ("ACCOUNT#acme", "PROFILE"),
        ("ACCOUNT#acme", "SUB#sub_1"),
        ("ACCOUNT#acme", f"INV#{second:012d}#in_1"),
        ("ACCOUNT#acme", f"OUT#{second:012d}#evt_1.sub_1"),
        ("CUSTOMER#cus_1", "ACCOUNT"),
        ("EVENT#evt_1", "RECEIVED"),
    }
    assert repository.load_account("acme") == Account(replace(linked, version=2), (SUBSCRIPTION,))


REFUSED_COMMITS: Mapping[str, tuple[Callable[[Profile], Commit], type[Exception]]] = {
    "marker is final": (lambda acme: Commit(marker("evt_0"), profile=acme), EventAlreadyProcessed),
    "row is newer": (lambda acme: Commit(marker(), (row(version=1),), profile=acme), VersionConflict),
    "row is older than thought": (lambda acme: Commit(marker(), (row(version=3),), profile=acme), VersionConflict),
    "second row is not there": (
        lambda acme: Commit(marker(), (row(version=2), row(INVOICE, version=2)), profile=acme),
        VersionConflict,
    ),
    "profile is newer": (
        lambda acme: Commit(marker(), (row(version=2),), (OUTBOUND,), replace(acme, version=0)),
        VersionConflict,
    ),
    "customer is linked by now": (
        lambda _acme: Commit(marker(account_id="globex"), new_customer_id="cus_of_globex"),
        VersionConflict,
    ),
    "customer is another account's": (
        lambda acme: Commit(marker(), (row(version=2),), (OUTBOUND,), acme, new_customer_id="cus_of_globex"),
        VersionConflict,
    ),
}


@pytest.mark.parametrize("refused", REFUSED_COMMITS)
def test_a_refused_commit_writes_nothing(
    refused: str, repository: Repository, acme: Profile, dynamodb: Any, table_name: str
) -> None:
    """Whatever part of a commit is refused, no part of it is written: never an effect without its marker."""
    repository.commit(Commit(marker("evt_0"), (row(),)))
    repository.save_profile(Profile("globex"), new_customer_id="cus_of_globex")
    before = items(dynamodb, table_name)
    commit, error = REFUSED_COMMITS[refused]
    with pytest.raises(error):
        repository.commit(commit(acme))
    assert items(dynamodb, table_name) == before


RECORDED = [outcome for outcome in EventOutcome if outcome is not EventOutcome.DUPLICATE]


@pytest.mark.parametrize("first", RECORDED)
def test_only_an_open_outcome_is_overwritten(first: EventOutcome, repository: Repository) -> None:
    """A final outcome stays; an unknown_customer event, and others worth another look, can still be applied."""
    repository.commit(Commit(marker(outcome=first)))
    if first.is_final:
        with pytest.raises(EventAlreadyProcessed):
            repository.commit(Commit(marker(outcome=EventOutcome.NO_CHANGE)))
    else:
        repository.commit(Commit(marker(outcome=EventOutcome.NO_CHANGE)))
    assert repository.read_event_context("evt_1", "cus_1", None, ()).outcome is (
        first if first.is_final else EventOutcome.NO_CHANGE
    )


def test_a_row_is_written_over_the_version_that_was_read(repository: Repository) -> None:
    """Each write counts one up; writing over an older version is refused."""
    for version in (1, 2, 3):
        repository.commit(Commit(marker(f"evt_{version}"), (row(version=version),)))
    with pytest.raises(VersionConflict):
        repository.commit(Commit(marker("evt_late"), (row(version=3),)))
    assert repository.load_subscription_rows("acme")["sub_1"].version == 3


def test_a_profile_is_written_over_the_version_that_was_read(repository: Repository, acme: Profile) -> None:
    """Of two changes to the same version the second is refused, and can be made to the new one."""
    saved = repository.save_profile(replace(acme, trial_used=True))
    with pytest.raises(VersionConflict):
        repository.save_profile(replace(acme, email="other@acme.test"))
    repository.save_profile(replace(saved, email="other@acme.test"))
    profile = repository.load_account("acme").profile
    assert (profile.trial_used, profile.email, profile.version) == (True, "other@acme.test", 3)


def test_an_account_is_created_once(repository: Repository, acme: Profile) -> None:
    """Creating what exists is refused and changes nothing."""
    with pytest.raises(VersionConflict):
        repository.create_account(Profile("acme", email="thief@example.com"))
    assert repository.load_account("acme").profile == acme


def test_a_customer_belongs_to_one_account(repository: Repository, acme: Profile) -> None:
    """A Stripe customer that one account has cannot become another's; linking it again to the same is no conflict."""
    linked = repository.save_profile(replace(acme, customer_id="cus_1"), new_customer_id="cus_1")
    repository.save_profile(linked, new_customer_id="cus_1")
    with pytest.raises(VersionConflict):
        repository.save_profile(Profile("globex", customer_id="cus_1"), new_customer_id="cus_1")
    assert repository.read_event_context("evt_1", "cus_1", None, ()).account_of_customer == "acme"
    assert repository.load_account("globex") == Account(Profile("globex"))


# --- parallel writers -------------------------------------------------------------------------------------------------


def succeeds(write: Callable[[], object]) -> bool:
    """Whether a conditional write was not refused."""
    try:
        write()
    except VersionConflict:
        return False
    return True


def test_one_of_many_writers_of_a_version_wins(repository: Repository, acme: Profile) -> None:
    """Simultaneous changes to one version: exactly one is made."""
    wins = in_parallel(
        lambda number: succeeds(lambda: repository.save_profile(replace(acme, email=f"{number}@acme.test")))
    )
    assert wins.count(True) == 1
    profile = repository.load_account("acme").profile
    assert (profile.email, profile.version) == (f"{wins.index(True)}@acme.test", 2)


def test_one_of_many_creators_wins(repository: Repository) -> None:
    """Simultaneous creations of an account: exactly one is made."""
    wins = in_parallel(
        lambda number: succeeds(lambda: repository.create_account(Profile("acme", email=f"{number}@a.test")))
    )
    assert wins.count(True) == 1
    assert repository.load_account("acme").profile.email == f"{wins.index(True)}@a.test"


@dataclass
class Deliveries:
    """Stripe's events in the hands of parallel processors, while Stripe's state goes on changing."""

    repository: Repository
    stripe: model.Stripe
    lock: threading.Condition = field(default_factory=threading.Condition)
    queue: list[model.Json] = field(default_factory=list)
    are_over: bool = False

    def processor(self) -> EventProcessor:
        """As the function makes one, on the model's clock."""
        now: Callable[[], datetime] = lambda: model.moment(self.stripe.time)  # noqa: E731
        return EventProcessor(self.repository, model.CATALOG, self.fetch, livemode=False, now=now)

    def fetch(self, target: ObjectRef) -> FetchedObject:
        """A fetch whose answer may be old when it arrives: others change Stripe's state between the two locks."""
        with self.lock:
            asked, source = self.stripe.time, self.stripe.objects[target.id]
        with self.lock:
            answered = model.moment(self.stripe.stamp())
            took = timedelta(seconds=self.stripe.time - asked)
        return FetchedObject(read(source), answered - took, answered)

    def put(self, events: Sequence[model.Json]) -> None:
        """Deliver events, some time and in any order."""
        with self.lock:
            self.queue += events
            self.lock.notify_all()

    def end(self) -> None:
        """There is no more to come."""
        with self.lock:
            self.are_over = True
            self.lock.notify_all()

    def wait_for_processors(self) -> None:
        """Let the processors keep up with Stripe, so that its state changes between what they do."""
        with self.lock:
            assert self.lock.wait_for(lambda: len(self.queue) < PROCESSORS, timeout=60)

    def take(self) -> model.Json | None:
        """Any event that waits; None once there will be no more."""
        with self.lock:
            self.lock.wait_for(lambda: self.queue or self.are_over)
            self.lock.notify_all()
            return self.queue.pop(self.stripe.choice.randrange(len(self.queue))) if self.queue else None

    def work(self) -> None:
        """Process what comes; what fails is delivered again."""
        while (event := self.take()) is not None:
            self._process(event)

    def _process(self, event: model.Json) -> None:
        try:
            self.processor().process(event)
        except StripeUnavailable:
            self.put([event])


def read(source: model.Json) -> Snapshot:
    """A model object as the code under test reads it."""
    return parse_invoice(source) if source["id"].startswith("in_") else parse_subscription(source, model.CATALOG)


def facts(content: Snapshot) -> Snapshot:
    """What is Stripe's of a row; since when a subscription is past due is our own reckoning."""
    return replace(content, past_due_since=None) if isinstance(content, Subscription) else content


@pytest.fixture
def deliveries(repository: Repository, acme: Profile) -> Deliveries:
    """A Stripe whose events reach the table of these tests, for an account that it knows."""
    del acme
    choice = random.Random(0)
    return Deliveries(repository, model.Stripe(choice))


def test_one_of_many_processors_of_an_event_applies_it(deliveries: Deliveries, dynamodb: Any, table_name: str) -> None:
    """The same delivery at many processors at once: one applies it, the others say that it was there."""
    deliveries.stripe.put(model.subscription("sub_1", "cus_1", "active", model.START), "customer.subscription.created")
    [event] = deliveries.stripe.events
    outcomes = Counter(in_parallel(lambda _number: deliveries.processor().process(event)))
    assert outcomes == {EventOutcome.APPLIED: 1, EventOutcome.DUPLICATE: WRITERS - 1}
    assert deliveries.repository.load_subscription_rows("acme")["sub_1"].version == 1
    assert sum(sk.startswith("OUT#") for _, sk in items(dynamodb, table_name)) == 1


def test_processors_of_different_events_converge(deliveries: Deliveries) -> None:
    """Many changes of one subscription within a second, processed all at once: the row ends as Stripe's object."""
    stripe = deliveries.stripe
    stripe.put(model.subscription("sub_1", "cus_1", "active", model.START), "customer.subscription.created")
    for quantity in range(2, WRITERS + 1):
        changed = stripe.objects["sub_1"] | {"items": model.items("team_monthly", quantity, model.START)}
        stripe.put(changed, "customer.subscription.updated")
    outcomes = in_parallel(lambda number: deliveries.processor().process(stripe.events[number]))
    assert EventOutcome.DUPLICATE not in outcomes
    [row] = deliveries.repository.load_subscription_rows("acme").values()
    assert row.content == read(stripe.objects["sub_1"])


@pytest.mark.parametrize("seed", range(36))
def test_lives_delivered_in_parallel_end_as_stripe_has_them(seed: int, deliveries: Deliveries) -> None:
    """Random lives, told by four processors in any order and twice while they go on: every row ends as Stripe's."""
    stripe = deliveries.stripe
    stripe.choice.seed(seed)
    with ThreadPoolExecutor(PROCESSORS) as pool:
        workers = [pool.submit(deliveries.work) for _ in range(PROCESSORS)]
        try:
            live(deliveries)
        finally:
            deliveries.end()
    for worker in workers:
        worker.result()
    rows = deliveries.repository.load_subscription_rows("acme")
    subscriptions = {key: source for key, source in stripe.objects.items() if key.startswith("sub_")}
    assert {key: facts(row.content) for key, row in rows.items()} == {
        key: read(source) for key, source in subscriptions.items()
    }


def live(deliveries: Deliveries) -> None:
    """Two subscriptions change twelve times; each change is delivered at once, and everything a second time."""
    stripe = deliveries.stripe
    for subscription_id in ("sub_1", "sub_2"):
        with deliveries.lock:
            stripe.subscribe(subscription_id)
    told = 0
    for _ in range(12):
        with deliveries.lock:
            stripe.wait()
            stripe.change(stripe.choice.choice(["sub_1", "sub_2"]))
        deliveries.put(stripe.events[told:])
        told = len(stripe.events)
        deliveries.wait_for_processors()
    deliveries.put(stripe.events)


def test_an_event_takes_two_calls(deliveries: Deliveries, dynamodb: Any) -> None:
    """The common path is one read and one transaction."""
    deliveries.stripe.put(model.subscription("sub_1", "cus_1", "active", model.START), "customer.subscription.created")
    with calls_of(dynamodb) as calls:
        deliveries.processor().process(deliveries.stripe.events[0])
    assert calls == ["BatchGetItem", "TransactWriteItems"]
    with calls_of(dynamodb) as calls:
        deliveries.repository.load_account("acme")
    assert calls == ["Query"]


# --- what goes in comes out -------------------------------------------------------------------------------------------

NUMBERS = itertools.count()
"""Each example writes to an account of its own."""

TEXT = st.text(max_size=40)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0)
)
INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1)
OF_TYPE: Mapping[type | UnionType, st.SearchStrategy[Any]] = {
    str: TEXT,
    str | None: st.none() | TEXT,
    int: INTEGERS,
    int | None: st.none() | INTEGERS,
    bool: st.booleans(),
    datetime: MOMENTS,
    datetime | None: st.none() | MOMENTS,
    OpenCheckout | None: st.none() | st.builds(OpenCheckout, TEXT, TEXT),
}


def any_of[T](cls: type[T], **known: Any) -> st.SearchStrategy[T]:
    """Values of a dataclass with whatever its fields may hold."""
    drawn = {each.name: OF_TYPE[each.type] for each in fields(cls) if each.name not in known}  # type: ignore[arg-type,index]
    return st.builds(cls, **drawn, **{name: st.just(value) for name, value in known.items()})


on_one_table = settings(
    max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@on_one_table
@given(content=any_of(Subscription, id="sub_1") | any_of(Invoice, id="in_1"), seen=st.tuples(MOMENTS, MOMENTS))
def test_a_row_comes_back_whole(repository: Repository, content: Snapshot, seen: tuple[datetime, datetime]) -> None:
    """Every field of a subscription, an invoice and its sighting is read as it was written."""
    account_id = f"acme-{next(NUMBERS)}"
    written = StoredObject(content, *seen, version=1)
    repository.commit(Commit(marker(account_id, account_id=account_id), (written,)))
    target = ObjectRef(type(content), content.id, content)
    assert repository.read_event_context("evt", "cus", account_id, (target,)).rows == {content.id: written}


@on_one_table
@given(profile=any_of(Profile, version=0))
def test_a_profile_comes_back_whole(repository: Repository, profile: Profile) -> None:
    """Every field of a profile is read as it was written."""
    profile = replace(profile, account_id=f"acme-{next(NUMBERS)}")
    saved = repository.save_profile(profile)
    assert repository.load_account(profile.account_id).profile == saved == replace(profile, version=1)


@on_one_table
@given(record=any_of(KeyRecord))
def test_a_key_comes_back_whole(repository: Repository, record: KeyRecord) -> None:
    """Every field of a key is read as it was written, by its digest and in its account's list."""
    record = replace(record, id="key_1", account_id=f"acme-{next(NUMBERS)}")
    repository.create_key(f"digest-{record.account_id}", record)
    assert repository.find_key(f"digest-{record.account_id}") == record
    assert repository.list_keys(record.account_id) == [record]


@on_one_table
@given(data=st.dictionaries(TEXT.filter(bool), st.none() | st.booleans() | INTEGERS | TEXT, max_size=5))
def test_an_outbound_event_is_kept_whole(
    repository: Repository, dynamodb: Any, table_name: str, data: dict[str, str | int | bool | None]
) -> None:
    """What is to be told lies in the outbox with all of its data, nulls too."""
    event_id = f"evt_{next(NUMBERS)}"
    repository.commit(Commit(marker(event_id), outbound=(replace(OUTBOUND, id=event_id, data=data),)))
    key = {"pk": {"S": "ACCOUNT#acme"}, "sk": {"S": f"OUT#{int(NOW.timestamp()):012d}#{event_id}"}}
    item = dynamodb.get_item(TableName=table_name, Key=key)["Item"]
    plain = {name: None if "NULL" in value else next(iter(value.values())) for name, value in item["data"]["M"].items()}
    assert plain == {
        name: str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in data.items()
    }
    assert item["type"] == {"S": "subscription.created"}


# --- reading ----------------------------------------------------------------------------------------------------------


def test_an_account_that_nobody_wrote_is_empty(repository: Repository) -> None:
    """An account exists as soon as a credential names it: nothing stored is no error."""
    assert repository.load_account("acme") == Account(Profile("acme"))


def test_all_subscriptions_of_an_account_and_no_others(repository: Repository, acme: Profile) -> None:
    """Several subscriptions are all kept; invoices and other accounts' rows are none of them."""
    mine = [replace(SUBSCRIPTION, id=f"sub_{number}") for number in range(3)]
    repository.commit(Commit(marker("evt_1"), (*map(row, mine), row(INVOICE)), (OUTBOUND,)))
    repository.create_key("digest", KeyRecord("key_1", "acme", "secret", NOW, "last"))
    other = row(replace(SUBSCRIPTION, id="sub_other"))
    for account_id in ("acme2", "acm", "globex"):
        repository.commit(Commit(marker(account_id, account_id=account_id), (other,)))
    assert repository.load_account("acme") == Account(acme, tuple(mine))
    assert set(repository.load_subscription_rows("acme")) == {"sub_0", "sub_1", "sub_2"}


def test_a_query_reads_all_of_its_pages(repository: Repository, acme: Profile, dynamodb: Any) -> None:
    """An account whose rows do not fit one page of DynamoDB is still read whole."""
    rows = [row(replace(SUBSCRIPTION, id=f"sub_{number}")) for number in range(5)]
    repository.commit(Commit(marker(), rows))
    for number in range(5):
        repository.create_key(f"digest_{number}", KeyRecord(f"key_{number}", "acme", "secret", NOW, "last"))
    with calls_of(dynamodb, Limit=2) as calls:
        account = repository.load_account("acme")
        keys = repository.list_keys("acme")
    assert calls.count("Query") >= 6
    assert account == Account(acme, tuple(each.content for each in rows if isinstance(each.content, Subscription)))
    assert [key.id for key in keys] == [f"key_{number}" for number in range(5)]


@contextmanager
def calls_of(dynamodb: Any, **limits: int) -> Iterator[list[str]]:
    """The operations that a client calls meanwhile; `limits` are added to every Query."""
    calls: list[str] = []

    def record(model: Any, **_rest: Any) -> None:
        calls.append(model.name)

    def limit(params: dict[str, Any], **_rest: Any) -> dict[str, Any]:
        return params | limits

    handlers: dict[str, Any] = {"before-call.dynamodb": record, "provide-client-params.dynamodb.Query": limit}
    for event, handler in handlers.items():
        dynamodb.meta.events.register(event, handler)
    try:
        yield calls
    finally:
        for event, handler in handlers.items():
            dynamodb.meta.events.unregister(event, handler)


def test_what_an_event_names_is_read_together(repository: Repository, acme: Profile) -> None:
    """Marker, customer, profile and rows come back together; what is not there is left out."""
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


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_found_until_it_is_revoked(repository: Repository) -> None:
    """A key is known by its digest alone; revoking it is final, told to all who ask, and keeps its first time."""
    record = KeyRecord("key_1", "acme", "secret", NOW, "abcd")
    assert repository.find_key("digest") is None
    repository.create_key("digest", record)
    assert repository.find_key("digest") == record
    revoked = replace(record, revoked=NOW + timedelta(hours=1))
    assert repository.revoke_key("acme", "key_1", NOW + timedelta(hours=1)) == revoked
    assert repository.revoke_key("acme", "key_1", NOW + timedelta(hours=2)) == revoked
    assert repository.find_key("digest") == revoked
    assert repository.list_keys("acme") == [revoked]


def test_a_key_is_revoked_by_its_account_only(repository: Repository) -> None:
    """Neither another account nor another id touches a key."""
    record = KeyRecord("key_1", "acme", "secret", NOW, "abcd")
    repository.create_key("digest", record)
    assert repository.revoke_key("globex", "key_1", NOW) is None
    assert repository.revoke_key("acme", "key_2", NOW) is None
    assert repository.find_key("digest") == record


def test_a_digest_names_one_key(repository: Repository, dynamodb: Any, table_name: str) -> None:
    """The same key cannot be given to a second account."""
    repository.create_key("digest", KeyRecord("key_1", "acme", "secret", NOW, "abcd"))
    before = items(dynamodb, table_name)
    with pytest.raises(VersionConflict):
        repository.create_key("digest", KeyRecord("key_2", "globex", "secret", NOW, "abcd"))
    assert items(dynamodb, table_name) == before


# --- what DynamoDB deletes by itself ----------------------------------------------------------------------------------


def test_markers_and_outbox_expire_and_nothing_else(
    repository: Repository, acme: Profile, dynamodb: Any, table_name: str
) -> None:
    """A marker outlives the 30 days in which Stripe resends; accounts, subscriptions, invoices and keys stay."""
    repository.commit(Commit(marker(), (row(), row(INVOICE)), (OUTBOUND,), acme, new_customer_id="cus_1"))
    repository.create_key("digest", KeyRecord("key_1", "acme", "secret", NOW, "abcd"))
    attribute = template()["Resources"]["Table"]["Properties"]["TimeToLiveSpecification"]["AttributeName"]
    expiring = {
        sk: int(item[attribute]["N"]) for (_, sk), item in items(dynamodb, table_name).items() if attribute in item
    }
    expected = int((NOW + EVENT_RETENTION).timestamp())
    assert expiring == {"RECEIVED": expected, f"OUT#{int(NOW.timestamp()):012d}#evt_1.sub_1": expected}
    assert timedelta(days=30) < EVENT_RETENTION
