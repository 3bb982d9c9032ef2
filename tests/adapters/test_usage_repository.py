"""Usage on a real engine over HTTP, with real parallel callers; and what DynamoDB may refuse, on the wire."""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from botocore.config import Config

from billing.adapters.aws import CLIENT_CONFIG, session
from billing.adapters.dynamodb import Table
from billing.adapters.repository import Repository
from billing.adapters.usage_repository import ATTEMPTS_MAX, BATCH_SIZE, PAUSE_SECONDS_MAX, UsageRepository
from billing.domain.accounts import Account, Profile
from billing.domain.errors import StoreUnavailable
from billing.domain.plans import Metric, MetricKind, Plan
from billing.domain.usage import Action, Measurement, MeasurementOutcome, Period, Quota, UsageDecision
from tests.samples import NOW
from tests.wire import Answer, Wire

CALLERS = 32
LIMIT = 1000
CALLS = Metric("api_calls", "API calls", MetricKind.COUNTER)
RUNS = Metric("runs", "Runs", MetricKind.COUNTER)
PROJECTS = Metric("projects", "Projects", MetricKind.GAUGE)
NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
DECEMBER = Period(datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
QUOTA = Quota(Plan("pro", "Pro", limits={"api_calls": LIMIT, "projects": 10}), NOVEMBER)
SMALLER = replace(QUOTA, plan=Plan("free", "Free", limits={"api_calls": 1, "projects": 1}))
ACME = Account(Profile("acme"))
GLOBEX = Account(Profile("globex"))

type Call = tuple[str, dict[str, Any]]


def consume(id: str, value: int = 1, metric: Metric = CALLS) -> Measurement:  # noqa: A002 - what it is
    """A measurement that asks first."""
    return Measurement(id, metric, value, Action.CONSUME)


def track(id: str, value: int = 1, metric: Metric = CALLS) -> Measurement:  # noqa: A002
    """A measurement that counts in any case."""
    return Measurement(id, metric, value)


@dataclass
class Usage:
    """Acme's ledger, and what its client sends."""

    usage: UsageRepository
    repository: Repository

    def record(self, *measurements: Measurement, quota: Quota = QUOTA) -> list[tuple[MeasurementOutcome, int]]:
        """What becomes of measurements, and how much is used after each."""
        account = self.repository.load_account("acme")
        return [(each.outcome, each.used) for each in self.usage.record(account, quota, measurements, NOW)]

    def outcomes(self, *measurements: Measurement, quota: Quota = QUOTA) -> list[MeasurementOutcome]:
        """The same, without the count: after one attempt it is no more than what is known."""
        return [outcome for outcome, _ in self.record(*measurements, quota=quota)]

    def used(self, period: Period = NOVEMBER, account_id: str = "acme") -> dict[str, int]:
        """All that is used: counters of the period, and gauges."""
        counted = self.usage.read_counters(account_id, period, [CALLS, RUNS, PROJECTS])
        return {**self.repository.load_account(account_id).gauges, **counted}


@pytest.fixture
def usage(table: Table, repository: Repository) -> Usage:
    """A ledger in which nothing is recorded, with a client as the functions have it: 32 callers need 32 connections."""
    url = table.client.meta.endpoint_url
    client: Any = session().create_client("dynamodb", endpoint_url=url, config=CLIENT_CONFIG)
    return Usage(UsageRepository(Table(client, table.name)), repository)


@contextmanager
def calls_of(usage: Usage) -> Iterator[list[str]]:
    """The requests that the ledger makes meanwhile."""
    calls: list[str] = []

    def see(model: Any, **_: Any) -> None:
        calls.append(model.name)

    events = usage.usage.table.client.meta.events
    events.register("before-call.dynamodb", see)
    try:
        yield calls
    finally:
        events.unregister("before-call.dynamodb", see)


# --- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.engine
def test_a_measurement_counts_once(usage: Usage) -> None:
    """However often it is sent, also beside others, and whatever else it says the second time."""
    assert usage.record(consume("m_1", 3)) == [(MeasurementOutcome.RECORDED, 3)]
    assert usage.outcomes(consume("m_1", 3)) == [MeasurementOutcome.DUPLICATE]
    assert usage.outcomes(track("m_2", 4), track("m_1", 50), track("m_3", 5)) == [
        MeasurementOutcome.RECORDED,
        MeasurementOutcome.DUPLICATE,
        MeasurementOutcome.RECORDED,
    ]
    assert usage.used() == {"api_calls": 12, "team_members": 1}


@pytest.mark.engine
def test_a_duplicate_is_one_also_where_it_would_not_fit(usage: Usage) -> None:
    """At the limit, and under a smaller one: it is told that it was recorded, not that it is refused."""
    usage.record(consume("m_1", LIMIT), consume("p_1", 10, PROJECTS))
    assert usage.outcomes(consume("m_1", LIMIT)) == [MeasurementOutcome.DUPLICATE]
    assert (
        usage.outcomes(consume("m_1", LIMIT), consume("p_1", 10, PROJECTS), quota=SMALLER)
        == [MeasurementOutcome.DUPLICATE] * 2
    )
    assert usage.used() == {"api_calls": LIMIT, "projects": 10, "team_members": 1}


@pytest.mark.engine
def test_what_is_refused_is_not_remembered(usage: Usage) -> None:
    """The same id is recorded once there is room for it."""
    assert usage.record(consume("m_1", 2), consume("p_1", 2, PROJECTS), quota=SMALLER) == [
        (MeasurementOutcome.LIMIT_REACHED, 0),
        (MeasurementOutcome.LIMIT_REACHED, 0),
    ]
    assert usage.outcomes(consume("m_1", 2), consume("p_1", 2, PROJECTS)) == [MeasurementOutcome.RECORDED] * 2
    assert usage.used() == {"api_calls": 2, "projects": 2, "team_members": 1}


@pytest.mark.engine
def test_a_refusal_tells_what_is_used(usage: Usage) -> None:
    """What the counter holds, not what this caller knows of it."""
    usage.record(track("m_1", 999))
    assert usage.record(consume("m_2", 2)) == [(MeasurementOutcome.LIMIT_REACHED, 999)]
    assert usage.record(consume("m_3", LIMIT + 1)) == [(MeasurementOutcome.LIMIT_REACHED, 999)]
    assert usage.outcomes(consume("m_4", 1)) == [MeasurementOutcome.RECORDED]
    assert usage.record(consume("m_5", 1)) == [(MeasurementOutcome.LIMIT_REACHED, LIMIT)]


@pytest.mark.engine
def test_a_mixed_batch(usage: Usage) -> None:
    """A hundred measurements of three metrics, in two transactions: each is decided on after the one before."""
    usage.record(track("old", 900), consume("gone", 5, PROJECTS))
    measurements = [
        *(consume(f"c_{number}", 3) for number in range(40)),
        track("old", 900),
        *(track(f"t_{number}", 7, RUNS) for number in range(40)),
        consume("p_1", 11, PROJECTS),
        consume("p_2", 9, PROJECTS),
        *(consume(f"d_{number}", 1) for number in range(17)),
    ]
    assert len(measurements) == 2 * BATCH_SIZE
    outcomes = usage.outcomes(*measurements)
    assert outcomes == [
        *[MeasurementOutcome.RECORDED] * 33,
        *[MeasurementOutcome.LIMIT_REACHED] * 7,
        MeasurementOutcome.DUPLICATE,
        *[MeasurementOutcome.RECORDED] * 40,
        MeasurementOutcome.LIMIT_REACHED,
        MeasurementOutcome.RECORDED,
        MeasurementOutcome.RECORDED,
        *[MeasurementOutcome.LIMIT_REACHED] * 16,
    ]
    assert usage.used() == {"api_calls": LIMIT, "runs": 280, "projects": 9, "team_members": 1}
    again = usage.outcomes(*measurements)
    assert Counter(again) == {MeasurementOutcome.DUPLICATE: 76, MeasurementOutcome.LIMIT_REACHED: 24}
    assert usage.used() == {"api_calls": LIMIT, "runs": 280, "projects": 9, "team_members": 1}


@pytest.mark.engine
def test_periods_and_accounts_are_apart(usage: Usage) -> None:
    """A new period begins at nothing, another account's measurements are its own; an id counts in one period only."""
    usage.record(consume("m_1", LIMIT))
    december = replace(QUOTA, period=DECEMBER)
    assert usage.outcomes(consume("m_1", LIMIT), consume("m_2", LIMIT), quota=december) == [
        MeasurementOutcome.DUPLICATE,
        MeasurementOutcome.RECORDED,
    ]
    [other] = usage.usage.record(GLOBEX, QUOTA, [consume("m_1", 7)], NOW)
    assert other.outcome is MeasurementOutcome.RECORDED
    assert (usage.used()["api_calls"], usage.used(DECEMBER)["api_calls"]) == (LIMIT, LIMIT)
    assert usage.used(account_id="globex")["api_calls"] == 7


@pytest.mark.engine
def test_gauges_come_with_the_account(usage: Usage) -> None:
    """What was said last; a team that was never counted is one person."""
    assert usage.repository.load_account("acme").member_count == 1
    usage.usage.set_gauge("acme", "team_members", 12)
    usage.record(track("p_1", 3, PROJECTS), track("p_2", 2, PROJECTS))
    account = usage.repository.load_account("acme")
    assert account.gauges == {"team_members": 12, "projects": 2}
    assert account.member_count == 12


@pytest.mark.engine
def test_what_is_kept(usage: Usage, dynamodb: Any, table_name: str) -> None:
    """A marker for 35 days, a counter for 400 days after its period, a gauge for good."""
    usage.record(consume("m_1", 3), track("p_1", 2, PROJECTS))
    items = {(item["pk"]["S"], item["sk"]["S"]): item for item in dynamodb.scan(TableName=table_name)["Items"]}
    start = f"{int(NOVEMBER.start.timestamp()):012d}"
    counter = items.pop(("ACCOUNT#acme", f"USAGE#{start}#api_calls"))
    gauge = items.pop(("ACCOUNT#acme", "USAGE#-#projects"))
    marker = items.pop(("MEASUREMENT#acme#m_1", "RECORDED"))
    assert set(items) == {("MEASUREMENT#acme#p_1", "RECORDED")}
    assert plain(counter) == {"used": 3, "expires_at": int((NOVEMBER.end + timedelta(days=400)).timestamp())}
    assert plain(gauge) == {"used": 2}
    assert plain(marker) == {
        "id": "m_1",
        "metric": "api_calls",
        "value": 3,
        "recorded": int(NOW.timestamp()),
        "expires_at": int((NOW + timedelta(days=35)).timestamp()),
    }


def plain(item: dict[str, Any]) -> dict[str, str | int]:
    """An item without its key."""
    return {
        name: int(value["N"]) if "N" in value else value["S"]
        for name, value in item.items()
        if name not in {"pk", "sk"}
    }


# --- how many requests ------------------------------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.parametrize(
    ("asked", "calls"),
    [
        ([consume("m_2")], ["TransactWriteItems"]),
        ([track("m_2", 10**9)], ["TransactWriteItems"]),
        ([consume("m_1", 990)], ["TransactWriteItems"]),
        ([consume("m_2", 11)], ["TransactWriteItems"]),
        ([consume("m_2", LIMIT + 1)], ["TransactGetItems"]),
        ([consume("p_2", 11, PROJECTS)], ["TransactGetItems"]),
        ([consume(f"m_{number}", 0) for number in range(2, 102)], ["TransactWriteItems"] * 2),
        ([consume("m_1", 990), consume("m_2", 5)], ["TransactWriteItems"] * 2),
    ],
    ids=["fits", "tracked", "duplicate", "refused", "never fits", "gauge", "hundred", "in part a duplicate"],
)
def test_one_measurement_is_one_request(usage: Usage, asked: Sequence[Measurement], calls: list[str]) -> None:
    """Whatever becomes of it; a batch takes another only where a part of it was in the way."""
    usage.record(consume("m_1", 990))
    account = usage.repository.load_account("acme")
    with calls_of(usage) as made:
        usage.usage.record(account, QUOTA, asked, NOW)
    assert made == calls


# --- parallel callers -------------------------------------------------------------------------------------------------


def in_parallel[T](work: Callable[[int], T], callers: int = CALLERS) -> list[T]:
    """What so many threads get that all begin at the same instant."""
    barrier = threading.Barrier(callers)

    def begin(number: int) -> T:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(begin, range(callers)))


@pytest.mark.engine
def test_parallel_callers_end_at_the_limit(usage: Usage) -> None:
    """32 callers ask for 1,280 of 1,000: exactly 1,000 are recorded, and asking for each again changes nothing."""

    def work(caller: int) -> list[tuple[MeasurementOutcome, MeasurementOutcome]]:
        told = []
        for number in range(10):
            asked = [consume(f"{caller}.{number}.{part}") for part in range(4)]
            first, second = (usage.usage.record(ACME, QUOTA, asked, NOW) for _ in range(2))
            told += [(one.outcome, two.outcome) for one, two in zip(first, second, strict=True)]
        return told

    told = Counter(itertools.chain.from_iterable(in_parallel(work)))
    assert told == {
        (MeasurementOutcome.RECORDED, MeasurementOutcome.DUPLICATE): LIMIT,
        (MeasurementOutcome.LIMIT_REACHED, MeasurementOutcome.LIMIT_REACHED): 280,
    }
    assert usage.used()["api_calls"] == LIMIT


@pytest.mark.engine
def test_a_request_sent_twice_at_once_counts_once(usage: Usage) -> None:
    """A caller that gives up waiting sends again while the first is still at work: one of the two is the duplicate."""

    def work(caller: int) -> list[UsageDecision]:
        asked = [consume(f"{caller // 2}.{part}", 10) for part in range(5)]
        return usage.usage.record(ACME, QUOTA, asked, NOW)

    decided = in_parallel(work)
    for one, two in itertools.batched(decided, 2, strict=True):
        told = [{first.outcome, second.outcome} for first, second in zip(one, two, strict=True)]
        assert told == [{MeasurementOutcome.RECORDED, MeasurementOutcome.DUPLICATE}] * 5
    assert usage.used()["api_calls"] == CALLERS // 2 * 5 * 10


@pytest.mark.engine
def test_parallel_batches_of_several_metrics(usage: Usage) -> None:
    """What the decisions say is what the counters hold, and a consume never leads beyond the limit."""

    def work(caller: int) -> list[UsageDecision]:
        asked = [
            measurement
            for part in range(8)
            for measurement in (
                consume(f"{caller}.{part}.c", 1 + (caller + part) % 7),
                track(f"{caller}.{part}.r", 2, RUNS),
                track(f"{caller}.{part}.p", caller, PROJECTS),
            )
        ]
        return usage.usage.record(ACME, QUOTA, asked, NOW)

    decisions = list(itertools.chain.from_iterable(in_parallel(work)))
    consumed = sum(
        each.measurement.value
        for each in decisions
        if each.measurement.metric is CALLS and each.outcome is MeasurementOutcome.RECORDED
    )
    used = usage.used()
    assert used["api_calls"] == consumed <= LIMIT
    assert used["runs"] == CALLERS * 8 * 2
    assert used["projects"] in range(CALLERS)
    refused = [each for each in decisions if each.outcome is MeasurementOutcome.LIMIT_REACHED]
    assert all(each.used + each.measurement.value > LIMIT for each in refused if each.measurement.metric is CALLS)


# --- what DynamoDB refuses --------------------------------------------------------------------------------------------


@cache
def unsure_table(url: str) -> Table:
    """A table whose client asks once."""
    once = CLIENT_CONFIG.merge(Config(retries={"total_max_attempts": 1}))
    client: Any = session().create_client("dynamodb", endpoint_url=url, config=once)
    return Table(client, "billing")


@dataclass
class Unsure:
    """A ledger over a DynamoDB that answers what it is told, and how long it waited."""

    wire: Wire
    pauses: list[float]

    def record(self, *measurements: Measurement) -> list[MeasurementOutcome]:
        """What becomes of acme's measurements."""
        usage = UsageRepository(unsure_table(self.wire.url), self.pauses.append)
        return [each.outcome for each in usage.record(ACME, QUOTA, measurements, NOW)]

    @property
    def asked(self) -> list[str]:
        """The requests that were made."""
        return [request.headers["x-amz-target"].partition(".")[2] for request in self.wire.requests]


@pytest.fixture
def unsure(wire: Wire) -> Unsure:
    """Such a ledger."""
    return Unsure(wire, [])


def answer(status: int, body: object) -> Answer:
    """DynamoDB's JSON."""
    return Answer(status, json.dumps(body).encode(), {"content-type": "application/x-amz-json-1.0"})


OK = answer(200, {"Responses": []})
NONE: dict[str, Any] = {"Code": "None"}
CONFLICT: dict[str, Any] = {"Code": "TransactionConflict"}
THROTTLED: dict[str, Any] = {"Code": "ThrottlingError"}
FOUND: dict[str, Any] = {"Code": "ConditionalCheckFailed", "Item": {"pk": {"S": "MEASUREMENT#acme#m_1"}}}
FULL: dict[str, Any] = {"Code": "ConditionalCheckFailed", "Item": {"used": {"N": str(LIMIT)}}}


def cancelled(*reasons: dict[str, Any]) -> Answer:
    """A transaction that was not made: why not, for each of its writes."""
    kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
    return answer(400, {"__type": kind, "message": "No", "CancellationReasons": list(reasons)})


@pytest.mark.parametrize(
    ("answers", "outcome", "pauses"),
    [
        ([cancelled(NONE, CONFLICT), OK], MeasurementOutcome.RECORDED, 1),
        ([cancelled(CONFLICT, NONE), cancelled(NONE, CONFLICT), OK], MeasurementOutcome.RECORDED, 2),
        ([cancelled(FOUND, NONE)], MeasurementOutcome.DUPLICATE, 0),
        ([cancelled(FOUND, FULL)], MeasurementOutcome.DUPLICATE, 0),
        ([cancelled(FOUND, CONFLICT)], MeasurementOutcome.DUPLICATE, 1),
        ([cancelled(NONE, FULL)], MeasurementOutcome.LIMIT_REACHED, 0),
        ([cancelled(CONFLICT, FULL), cancelled(FOUND, FULL)], MeasurementOutcome.DUPLICATE, 1),
        ([cancelled(CONFLICT, FULL), cancelled(NONE, FULL)], MeasurementOutcome.LIMIT_REACHED, 1),
        ([cancelled(THROTTLED, FULL), cancelled(FOUND, FULL)], MeasurementOutcome.DUPLICATE, 1),
    ],
)
def test_a_refused_transaction_is_decided_on_again(
    unsure: Unsure, answers: list[Answer], outcome: MeasurementOutcome, pauses: int
) -> None:
    """A limit is not believed to be reached while the measurement itself may be what reached it."""
    unsure.wire.answer(*answers)
    assert unsure.record(consume("m_1")) == [outcome]
    assert unsure.asked == ["TransactWriteItems"] * len(answers)
    assert len(unsure.pauses) == pauses


def test_a_snapshot_that_collides_is_taken_again(unsure: Unsure) -> None:
    """What is too much in any case is refused only once it is known not to be recorded."""
    item = {"sk": {"S": "USAGE#001793491200#api_calls"}, "used": {"N": "7"}}
    unsure.wire.answer(cancelled(CONFLICT, NONE), answer(200, {"Responses": [{}, {"Item": item}]}))
    assert unsure.record(consume("m_1", LIMIT + 1)) == [MeasurementOutcome.LIMIT_REACHED]
    assert unsure.asked == ["TransactGetItems"] * 2
    assert len(unsure.pauses) == 1


def test_endless_conflicts_end(unsure: Unsure) -> None:
    """After some attempts, ever longer apart: the caller is told to try again, and nothing was recorded."""
    unsure.wire.answer(cancelled(NONE, CONFLICT))
    with pytest.raises(StoreUnavailable):
        unsure.record(consume("m_1"))
    assert len(unsure.asked) == len(unsure.pauses) == ATTEMPTS_MAX
    assert max(unsure.pauses) <= PAUSE_SECONDS_MAX
    assert sum(unsure.pauses) < 10


def test_a_later_batch_that_fails_is_sent_again_whole(unsure: Unsure) -> None:
    """What was recorded by then shows as a duplicate when the caller tries again."""
    asked = [track(f"m_{number}") for number in range(BATCH_SIZE + 1)]
    unsure.wire.answer(OK, answer(500, {"__type": "InternalServerError"}))
    with pytest.raises(StoreUnavailable):
        unsure.record(*asked)
    unsure.wire.answer(cancelled(*[FOUND] * BATCH_SIZE, NONE), OK)
    assert unsure.record(*asked) == [*[MeasurementOutcome.DUPLICATE] * BATCH_SIZE, MeasurementOutcome.RECORDED]


def test_measurements_with_the_same_id_raise_value_error(unsure: Unsure) -> None:
    """One marker for both would count the second one without a record of it."""
    with pytest.raises(ValueError, match="same id"):
        unsure.record(track("m_1"), track("m_1"))
    assert unsure.asked == []
