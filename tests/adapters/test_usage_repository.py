"""Usage repository on a real DynamoDB engine with concurrent callers, and rejected transactions on the wire."""

import itertools
import json
from collections import Counter
from collections.abc import Sequence
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
from tests.adapters.table_support import recorded_calls, run_concurrently
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
SMALLER_QUOTA = replace(QUOTA, plan=Plan("free", "Free", limits={"api_calls": 1, "projects": 1}))
ACME = Account(Profile("acme"))
GLOBEX = Account(Profile("globex"))


def consume(id: str, value: int = 1, metric: Metric = CALLS) -> Measurement:  # noqa: A002 - the field's name
    """Return a measurement that is rejected if it would exceed the limit."""
    return Measurement(id, metric, value, Action.CONSUME)


def track(id: str, value: int = 1, metric: Metric = CALLS) -> Measurement:  # noqa: A002
    """Return a measurement that is always recorded."""
    return Measurement(id, metric, value)


@dataclass
class Usage:
    """Usage of the account acme."""

    usage: UsageRepository
    repository: Repository

    def record(self, *measurements: Measurement, quota: Quota = QUOTA) -> list[tuple[MeasurementOutcome, int]]:
        """Record measurements. Returns their outcomes, with the usage after each."""
        account = self.repository.load_account("acme")
        return [(each.outcome, each.used) for each in self.usage.record(account, quota, measurements, NOW)]

    def outcomes(self, *measurements: Measurement, quota: Quota = QUOTA) -> list[MeasurementOutcome]:
        """Record measurements. Returns their outcomes."""
        return [outcome for outcome, _ in self.record(*measurements, quota=quota)]

    def used(self, period: Period = NOVEMBER, account_id: str = "acme") -> dict[str, int]:
        """Return the counters of a period and the gauges."""
        counted = self.usage.read_counters(account_id, period, [CALLS, RUNS, PROJECTS])
        return {**self.repository.load_account(account_id).gauges, **counted}


@pytest.fixture
def usage(table: Table, repository: Repository) -> Usage:
    """Usage without records. The client is configured as in the functions: 32 callers need 32 connections."""
    url = table.client.meta.endpoint_url
    client: Any = session().create_client("dynamodb", endpoint_url=url, config=CLIENT_CONFIG)
    return Usage(UsageRepository(Table(client, table.name)), repository)


# --- Recording --------------------------------------------------------------------------------------------------------


@pytest.mark.engine
def test_measurement_is_recorded_once_however_often_it_is_sent(usage: Usage) -> None:
    assert usage.record(consume("m_1", 3)) == [(MeasurementOutcome.RECORDED, 3)]
    assert usage.outcomes(consume("m_1", 3)) == [MeasurementOutcome.DUPLICATE]
    assert usage.outcomes(track("m_2", 4), consume("m_1", 3), track("m_3", 5)) == [
        MeasurementOutcome.RECORDED,
        MeasurementOutcome.DUPLICATE,
        MeasurementOutcome.RECORDED,
    ]
    assert usage.used() == {"api_calls": 12, "team_members": 1}


@pytest.mark.engine
@pytest.mark.parametrize(
    ("sent", "differences"),
    [
        (consume("m_1", 4), ["value"]),
        (consume("m_1", LIMIT + 1), ["value"]),
        (track("m_1", 3), ["action"]),
        (consume("m_1", 3, RUNS), ["metric"]),
        (track("m_1", 9, PROJECTS), ["metric", "value", "action"]),
    ],
)
def test_recorded_id_with_another_content_is_a_conflict_and_records_nothing(
    usage: Usage, sent: Measurement, differences: list[str]
) -> None:
    """Other measurements of the request are recorded."""
    usage.record(consume("m_1", 3))
    measurements = [track("m_2", 4), sent]
    _, conflict = usage.usage.record(ACME, QUOTA, measurements, NOW)
    assert conflict.result == {
        "id": "m_1",
        "outcome": "conflict",
        "recorded": {"metric": "api_calls", "value": 3, "action": "consume"},
        "differences": differences,
    }
    assert usage.outcomes(consume("m_1", 3)) == [MeasurementOutcome.DUPLICATE]
    assert usage.used() == {"api_calls": 7, "team_members": 1}


@pytest.mark.engine
def test_concurrent_measurements_with_one_id_and_different_contents_record_one(usage: Usage) -> None:
    decisions = run_concurrently(
        lambda caller: usage.usage.record(ACME, QUOTA, [track("m_1", caller + 1)], NOW)[0], CALLERS
    )
    [recorded] = [each for each in decisions if each.outcome is MeasurementOutcome.RECORDED]
    others = [each for each in decisions if each.outcome is MeasurementOutcome.CONFLICT]
    assert len(others) == CALLERS - 1
    assert {each.recorded.value for each in others if each.recorded} == {recorded.measurement.value}
    assert usage.used()["api_calls"] == recorded.measurement.value


@pytest.mark.engine
def test_duplicate_beyond_the_limit_is_a_duplicate(usage: Usage) -> None:
    """The limit may be exhausted or smaller by then."""
    usage.record(consume("m_1", LIMIT), consume("p_1", 10, PROJECTS))
    assert usage.outcomes(consume("m_1", LIMIT)) == [MeasurementOutcome.DUPLICATE]
    assert (
        usage.outcomes(consume("m_1", LIMIT), consume("p_1", 10, PROJECTS), quota=SMALLER_QUOTA)
        == [MeasurementOutcome.DUPLICATE] * 2
    )
    assert usage.used() == {"api_calls": LIMIT, "projects": 10, "team_members": 1}


@pytest.mark.engine
def test_rejected_measurement_can_be_recorded_later(usage: Usage) -> None:
    assert usage.record(consume("m_1", 2), consume("p_1", 2, PROJECTS), quota=SMALLER_QUOTA) == [
        (MeasurementOutcome.LIMIT_REACHED, 0),
        (MeasurementOutcome.LIMIT_REACHED, 0),
    ]
    assert usage.outcomes(consume("m_1", 2), consume("p_1", 2, PROJECTS)) == [MeasurementOutcome.RECORDED] * 2
    assert usage.used() == {"api_calls": 2, "projects": 2, "team_members": 1}


@pytest.mark.engine
def test_rejected_measurement_returns_the_stored_usage(usage: Usage) -> None:
    usage.record(track("m_1", 999))
    assert usage.record(consume("m_2", 2)) == [(MeasurementOutcome.LIMIT_REACHED, 999)]
    assert usage.record(consume("m_3", LIMIT + 1)) == [(MeasurementOutcome.LIMIT_REACHED, 999)]
    assert usage.outcomes(consume("m_4", 1)) == [MeasurementOutcome.RECORDED]
    assert usage.record(consume("m_5", 1)) == [(MeasurementOutcome.LIMIT_REACHED, LIMIT)]


@pytest.mark.engine
def test_measurements_of_several_metrics_are_decided_in_order(usage: Usage) -> None:
    """A hundred measurements need two transactions."""
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
def test_counters_are_separate_for_each_period_and_account(usage: Usage) -> None:
    """The id of a measurement is used once over all periods of an account."""
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
def test_account_has_the_last_value_of_each_gauge(usage: Usage) -> None:
    """The default of `team_members` is one person."""
    assert usage.repository.load_account("acme").member_count == 1
    usage.usage.set_gauge("acme", "team_members", 12)
    usage.record(track("p_1", 3, PROJECTS), track("p_2", 2, PROJECTS))
    account = usage.repository.load_account("acme")
    assert account.gauges == {"team_members": 12, "projects": 2}
    assert account.member_count == 12


@pytest.mark.engine
def test_markers_and_counters_expire_and_gauges_do_not(usage: Usage, dynamodb: Any, table_name: str) -> None:
    """A marker expires after 35 days, a counter 400 days after its period."""
    usage.record(consume("m_1", 3), track("p_1", 2, PROJECTS))
    items = {(item["pk"]["S"], item["sk"]["S"]): item for item in dynamodb.scan(TableName=table_name)["Items"]}
    start = f"{int(NOVEMBER.start.timestamp()):012d}"
    counter = items.pop(("ACCOUNT#acme", f"USAGE#{start}#api_calls"))
    gauge = items.pop(("ACCOUNT#acme", "USAGE#-#projects"))
    marker = items.pop(("MEASUREMENT#acme#m_1", "RECORDED"))
    assert set(items) == {("MEASUREMENT#acme#p_1", "RECORDED")}
    assert attributes(counter) == {"used": 3, "expires_at": int((NOVEMBER.end + timedelta(days=400)).timestamp())}
    assert attributes(gauge) == {"used": 2}
    assert attributes(marker) == {
        "id": "m_1",
        "metric": "api_calls",
        "value": 3,
        "action": "consume",
        "recorded": int(NOW.timestamp()),
        "expires_at": int((NOW + timedelta(days=35)).timestamp()),
    }


def attributes(item: dict[str, Any]) -> dict[str, str | int]:
    """Return the attributes of an item without its key."""
    return {
        name: int(value["N"]) if "N" in value else value["S"]
        for name, value in item.items()
        if name not in {"pk", "sk"}
    }


# --- Number of requests -----------------------------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.parametrize(
    ("measurements", "calls"),
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
    ids=["accepted", "tracked", "duplicate", "rejected", "above the limit", "gauge", "hundred", "partly duplicate"],
)
def test_batch_takes_one_request_unless_a_part_is_rejected(
    usage: Usage, measurements: Sequence[Measurement], calls: list[str]
) -> None:
    usage.record(consume("m_1", 990))
    account = usage.repository.load_account("acme")
    with recorded_calls(usage.usage.table.client) as recorded:
        usage.usage.record(account, QUOTA, measurements, NOW)
    assert recorded == calls


# --- Concurrent callers -----------------------------------------------------------------------------------------------


@pytest.mark.engine
def test_concurrent_callers_reach_the_limit_exactly(usage: Usage) -> None:
    """32 callers consume 1,280 of 1,000. Sending each measurement again changes nothing."""

    def work(caller: int) -> list[tuple[MeasurementOutcome, MeasurementOutcome]]:
        outcomes = []
        for number in range(10):
            measurements = [consume(f"{caller}.{number}.{part}") for part in range(4)]
            first, second = (usage.usage.record(ACME, QUOTA, measurements, NOW) for _ in range(2))
            outcomes += [(one.outcome, two.outcome) for one, two in zip(first, second, strict=True)]
        return outcomes

    outcomes = Counter(itertools.chain.from_iterable(run_concurrently(work, CALLERS)))
    assert outcomes == {
        (MeasurementOutcome.RECORDED, MeasurementOutcome.DUPLICATE): LIMIT,
        (MeasurementOutcome.LIMIT_REACHED, MeasurementOutcome.LIMIT_REACHED): 280,
    }
    assert usage.used()["api_calls"] == LIMIT


@pytest.mark.engine
def test_request_repeated_concurrently_is_recorded_once(usage: Usage) -> None:
    """A caller may repeat a request after its timeout, while the first one is still processed."""

    def work(caller: int) -> list[UsageDecision]:
        measurements = [consume(f"{caller // 2}.{part}", 10) for part in range(5)]
        return usage.usage.record(ACME, QUOTA, measurements, NOW)

    decisions = run_concurrently(work, CALLERS)
    for one, two in itertools.batched(decisions, 2, strict=True):
        outcomes = [{first.outcome, second.outcome} for first, second in zip(one, two, strict=True)]
        assert outcomes == [{MeasurementOutcome.RECORDED, MeasurementOutcome.DUPLICATE}] * 5
    assert usage.used()["api_calls"] == CALLERS // 2 * 5 * 10


@pytest.mark.engine
def test_concurrent_batches_of_several_metrics_match_the_counters(usage: Usage) -> None:
    """A `consume` never exceeds the limit."""

    def work(caller: int) -> list[UsageDecision]:
        measurements = [
            measurement
            for part in range(8)
            for measurement in (
                consume(f"{caller}.{part}.c", 1 + (caller + part) % 7),
                track(f"{caller}.{part}.r", 2, RUNS),
                track(f"{caller}.{part}.p", caller, PROJECTS),
            )
        ]
        return usage.usage.record(ACME, QUOTA, measurements, NOW)

    decisions = list(itertools.chain.from_iterable(run_concurrently(work, CALLERS)))
    consumed = sum(
        each.measurement.value
        for each in decisions
        if each.measurement.metric is CALLS and each.outcome is MeasurementOutcome.RECORDED
    )
    used = usage.used()
    assert used["api_calls"] == consumed <= LIMIT
    assert used["runs"] == CALLERS * 8 * 2
    assert used["projects"] in range(CALLERS)
    rejected = [each for each in decisions if each.outcome is MeasurementOutcome.LIMIT_REACHED]
    assert all(each.used + each.measurement.value > LIMIT for each in rejected if each.measurement.metric is CALLS)


# --- Rejected transactions --------------------------------------------------------------------------------------------


@cache
def connect(url: str) -> Table:
    """Return a table whose client is configured as in the functions, but without retries."""
    once = CLIENT_CONFIG.merge(Config(retries={"total_max_attempts": 1}))
    client: Any = session().create_client("dynamodb", endpoint_url=url, config=once)
    return Table(client, "billing")


@dataclass
class SimulatedUsage:
    """Usage of acme on a DynamoDB whose responses the test sets, with the pauses between attempts."""

    wire: Wire
    pauses: list[float]

    def record(self, *measurements: Measurement) -> list[MeasurementOutcome]:
        """Record measurements. Returns their outcomes."""
        usage = UsageRepository(connect(self.wire.url), self.pauses.append)
        return [each.outcome for each in usage.record(ACME, QUOTA, measurements, NOW)]

    @property
    def operations(self) -> list[str]:
        """Operations of the requests that were sent."""
        return [request.headers["x-amz-target"].partition(".")[2] for request in self.wire.requests]


@pytest.fixture
def simulated(wire: Wire) -> SimulatedUsage:
    """Usage on a simulated DynamoDB."""
    return SimulatedUsage(wire, [])


def response(status: int, body: object) -> Answer:
    """Return a response in DynamoDB's JSON."""
    return Answer(status, json.dumps(body).encode(), {"content-type": "application/x-amz-json-1.0"})


OK = response(200, {"Responses": []})
NONE: dict[str, Any] = {"Code": "None"}
CONFLICT: dict[str, Any] = {"Code": "TransactionConflict"}
THROTTLED: dict[str, Any] = {"Code": "ThrottlingError"}
STORED = {"pk": {"S": "MEASUREMENT#acme#m_1"}, "metric": {"S": "api_calls"}, "value": {"N": "1"}}
FOUND: dict[str, Any] = {"Code": "ConditionalCheckFailed", "Item": STORED}
OTHER_VALUE: dict[str, Any] = {"Code": "ConditionalCheckFailed", "Item": STORED | {"value": {"N": "2"}}}
FULL: dict[str, Any] = {"Code": "ConditionalCheckFailed", "Item": {"used": {"N": str(LIMIT)}}}


def canceled(*reasons: dict[str, Any]) -> Answer:
    """Return the error of a canceled transaction, with the reason of each of its writes."""
    kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
    return response(400, {"__type": kind, "message": "No", "CancellationReasons": list(reasons)})


@pytest.mark.parametrize(
    ("answers", "outcome", "pauses"),
    [
        ([canceled(NONE, CONFLICT), OK], MeasurementOutcome.RECORDED, 1),
        ([canceled(CONFLICT, NONE), canceled(NONE, CONFLICT), OK], MeasurementOutcome.RECORDED, 2),
        ([canceled(FOUND, NONE)], MeasurementOutcome.DUPLICATE, 0),
        ([canceled(FOUND, FULL)], MeasurementOutcome.DUPLICATE, 0),
        ([canceled(OTHER_VALUE, NONE)], MeasurementOutcome.CONFLICT, 0),
        ([canceled(OTHER_VALUE, FULL)], MeasurementOutcome.CONFLICT, 0),
        ([canceled(OTHER_VALUE, CONFLICT)], MeasurementOutcome.CONFLICT, 1),
        ([canceled(FOUND, CONFLICT)], MeasurementOutcome.DUPLICATE, 1),
        ([canceled(NONE, FULL)], MeasurementOutcome.LIMIT_REACHED, 0),
        ([canceled(CONFLICT, FULL), canceled(FOUND, FULL)], MeasurementOutcome.DUPLICATE, 1),
        ([canceled(CONFLICT, FULL), canceled(NONE, FULL)], MeasurementOutcome.LIMIT_REACHED, 1),
        ([canceled(THROTTLED, FULL), canceled(FOUND, FULL)], MeasurementOutcome.DUPLICATE, 1),
    ],
)
def test_rejected_transaction_is_decided_again(
    simulated: SimulatedUsage, answers: list[Answer], outcome: MeasurementOutcome, pauses: int
) -> None:
    """During a conflict, a full counter may already include the measurement itself."""
    simulated.wire.answer(*answers)
    assert simulated.record(consume("m_1")) == [outcome]
    assert simulated.operations == ["TransactWriteItems"] * len(answers)
    assert len(simulated.pauses) == pauses


def test_read_that_conflicts_with_a_transaction_is_repeated(simulated: SimulatedUsage) -> None:
    """A measurement above the limit is rejected only if it is known not to be recorded."""
    item = {"sk": {"S": "USAGE#001793491200#api_calls"}, "used": {"N": "7"}}
    simulated.wire.answer(canceled(CONFLICT, NONE), response(200, {"Responses": [{}, {"Item": item}]}))
    assert simulated.record(consume("m_1", LIMIT + 1)) == [MeasurementOutcome.LIMIT_REACHED]
    assert simulated.operations == ["TransactGetItems"] * 2
    assert len(simulated.pauses) == 1


def test_repeated_conflicts_raise_store_unavailable(simulated: SimulatedUsage) -> None:
    """The pauses between the attempts grow."""
    simulated.wire.answer(canceled(NONE, CONFLICT))
    with pytest.raises(StoreUnavailable):
        simulated.record(consume("m_1"))
    assert len(simulated.operations) == len(simulated.pauses) == ATTEMPTS_MAX
    assert max(simulated.pauses) <= PAUSE_SECONDS_MAX
    assert sum(simulated.pauses) < 10


def test_request_repeated_after_a_failed_batch_returns_duplicates(simulated: SimulatedUsage) -> None:
    """The batches before the failed one are recorded."""
    measurements = [track(f"m_{number}") for number in range(BATCH_SIZE + 1)]
    simulated.wire.answer(OK, response(500, {"__type": "InternalServerError"}))
    with pytest.raises(StoreUnavailable):
        simulated.record(*measurements)
    simulated.wire.answer(canceled(*[FOUND] * BATCH_SIZE, NONE), OK)
    assert simulated.record(*measurements) == [
        *[MeasurementOutcome.DUPLICATE] * BATCH_SIZE,
        MeasurementOutcome.RECORDED,
    ]


def test_measurements_with_the_same_id_raise_value_error(simulated: SimulatedUsage) -> None:
    """One marker would stand for two counted measurements."""
    with pytest.raises(ValueError, match="same id"):
        simulated.record(track("m_1"), track("m_1"))
    assert simulated.operations == []
