"""Decisions on measurements, and the period of a quota."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.accounts import Account, Profile
from billing.domain.errors import RequestInvalid
from billing.domain.plans import Catalog, Metric, MetricKind, Plan, Price
from billing.domain.subscriptions import AccessPolicy, Subscription
from billing.domain.usage import (
    Action,
    Measurement,
    MeasurementOutcome,
    MetricUpdate,
    MetricUsage,
    Period,
    Quota,
    RecordedMeasurement,
    UsageDecision,
    UsageState,
    calendar_month,
    decide_usage,
    metric_updates,
    parse_measurements,
    quota_of,
    summarize_usage,
)
from tests.samples import NOW, SUBSCRIPTION

CALLS = Metric("api_calls", "API calls", MetricKind.COUNTER)
RUNS = Metric("runs", "Runs", MetricKind.COUNTER)
PROJECTS = Metric("projects", "Projects", MetricKind.GAUGE)
LIMITED = Plan("pro", "Pro", (Price("pro_monthly", 1900, "usd", "month"),), limits={"api_calls": 10, "projects": 3})
FREE = Plan("free", "Free", limits={"api_calls": 1})
CATALOG = Catalog((FREE, LIMITED), (CALLS, RUNS, PROJECTS))
QUOTA = Quota(LIMITED, calendar_month(NOW))
POLICY = AccessPolicy(timedelta(days=14))


def consume(value: int, metric: Metric = CALLS, *, id: str = "m_1") -> Measurement:  # noqa: A002 - the field's name
    return Measurement(id, metric, value, Action.CONSUME)


def track(value: int, metric: Metric = CALLS, *, id: str = "m_1") -> Measurement:  # noqa: A002
    return Measurement(id, metric, value)


def outcomes(decisions: Sequence[UsageDecision]) -> list[tuple[MeasurementOutcome, int]]:
    """Return the outcome of each decision, and the metric's value after it."""
    return [(each.outcome, each.used) for each in decisions]


def test_consume_above_limit_is_refused_and_smaller_one_recorded() -> None:
    decisions = decide_usage([consume(9), consume(2), consume(1), consume(1)], QUOTA, UsageState({}))
    assert outcomes(decisions) == [
        (MeasurementOutcome.RECORDED, 9),
        (MeasurementOutcome.LIMIT_REACHED, 9),
        (MeasurementOutcome.RECORDED, 10),
        (MeasurementOutcome.LIMIT_REACHED, 10),
    ]
    assert {each.limit for each in decisions} == {10}


def test_track_above_limit_is_recorded_and_later_consume_refused() -> None:
    decisions = decide_usage([track(12), consume(0), track(1)], QUOTA, UsageState({}))
    assert outcomes(decisions) == [
        (MeasurementOutcome.RECORDED, 12),
        (MeasurementOutcome.LIMIT_REACHED, 12),
        (MeasurementOutcome.RECORDED, 13),
    ]


def test_consume_of_unlimited_metric_is_recorded() -> None:
    [decision] = decide_usage([consume(10**12, RUNS)], QUOTA, UsageState({"runs": 10**15}))
    assert decision == UsageDecision(consume(10**12, RUNS), MeasurementOutcome.RECORDED, 10**15 + 10**12, None)


def test_gauge_becomes_last_recorded_value() -> None:
    measurements = [track(7, PROJECTS), consume(4, PROJECTS), consume(3, PROJECTS), track(1, PROJECTS)]
    decisions = decide_usage(measurements, QUOTA, UsageState({"projects": 2}))
    assert outcomes(decisions) == [
        (MeasurementOutcome.RECORDED, 7),
        (MeasurementOutcome.LIMIT_REACHED, 7),
        (MeasurementOutcome.RECORDED, 3),
        (MeasurementOutcome.RECORDED, 1),
    ]
    assert metric_updates(decisions, UsageState({"projects": 2})) == [MetricUpdate(PROJECTS, 1, None)]


def test_recorded_measurement_is_duplicate_without_update() -> None:
    state = UsageState({"api_calls": 10}, {"m_2": RecordedMeasurement("api_calls", 20, "consume")})
    decisions = decide_usage([consume(20, id="m_2"), consume(1)], QUOTA, state)
    assert outcomes(decisions) == [(MeasurementOutcome.DUPLICATE, 10), (MeasurementOutcome.LIMIT_REACHED, 10)]
    assert metric_updates(decisions, state) == []


@pytest.mark.parametrize(
    ("sent", "differences"),
    [
        (consume(6), ["value"]),
        (consume(5, RUNS), ["metric"]),
        (track(5), ["action"]),
        (track(0, PROJECTS), ["metric", "value", "action"]),
    ],
)
def test_recorded_id_with_another_content_is_conflict_without_update(sent: Measurement, differences: list[str]) -> None:
    state = UsageState({"api_calls": 5}, {"m_1": RecordedMeasurement("api_calls", 5, "consume")})
    [decision] = decide_usage([sent], QUOTA, state)
    assert decision.result == {
        "id": "m_1",
        "outcome": "conflict",
        "recorded": {"metric": "api_calls", "value": 5, "action": "consume"},
        "differences": differences,
    }
    assert metric_updates([decision], state) == []


def test_measurement_that_was_stored_without_action_is_compared_without_it() -> None:
    state = UsageState({}, {"m_1": RecordedMeasurement("api_calls", 5)})
    [same], [other] = (decide_usage([each], QUOTA, state) for each in (track(5), track(6)))
    assert same.outcome is MeasurementOutcome.DUPLICATE
    assert other.result["recorded"] == {"metric": "api_calls", "value": 5}


def test_metric_updates_are_one_for_each_metric() -> None:
    """DynamoDB rejects a transaction that writes an item twice."""
    measurements = [consume(2), track(1, RUNS), track(3), consume(4), track(50), track(2, PROJECTS)]
    state = UsageState({"api_calls": 1})
    updates = metric_updates(decide_usage(measurements, QUOTA, state), state)
    assert updates == [MetricUpdate(CALLS, 59, 1), MetricUpdate(RUNS, 1, None), MetricUpdate(PROJECTS, 2, None)]


def test_result_states_usage_only_if_limit_is_reached() -> None:
    [recorded, refused] = decide_usage([consume(10), consume(1, id="m_2")], QUOTA, UsageState({}))
    assert recorded.result == {"id": "m_1", "outcome": "recorded"}
    assert refused.result == {"id": "m_2", "outcome": "limit_reached", "used": 10, "limit": 10}


VALUES = st.integers(0, 12)
MEASUREMENTS = st.lists(
    st.builds(
        Measurement,
        id=st.sampled_from([f"m_{number}" for number in range(8)]),
        metric=st.sampled_from([CALLS, RUNS, PROJECTS]),
        value=VALUES,
        action=st.sampled_from(Action),
    ),
    max_size=8,
    unique_by=lambda each: each.id,
)
RECORDED = st.dictionaries(
    st.sampled_from([f"m_{number}" for number in range(8)]),
    st.builds(
        RecordedMeasurement,
        st.sampled_from(["api_calls", "runs", "projects"]),
        VALUES,
        st.sampled_from([None, "track", "consume"]),
    ),
)


@given(MEASUREMENTS, VALUES, RECORDED)
def test_any_decision_follows_from_those_before_it(
    measurements: list[Measurement], used: int, recorded: dict[str, RecordedMeasurement]
) -> None:
    count = used
    for each in decide_usage(measurements, QUOTA, UsageState({"api_calls": used}, recorded)):
        measurement = each.measurement
        is_known = each.outcome in {MeasurementOutcome.DUPLICATE, MeasurementOutcome.CONFLICT}
        assert is_known is (measurement.id in recorded)
        if measurement.metric is not CALLS or is_known:
            continue
        exceeds = measurement.action is Action.CONSUME and count + measurement.value > 10
        assert each.outcome is (MeasurementOutcome.LIMIT_REACHED if exceeds else MeasurementOutcome.RECORDED)
        count += 0 if exceeds else measurement.value
        assert each.used == count


@given(MEASUREMENTS, VALUES, VALUES, RECORDED)
def test_decisions_on_older_count_are_written_only_if_equal_on_stored_count(
    measurements: list[Measurement], older: int, increase: int, recorded: dict[str, RecordedMeasurement]
) -> None:
    optimistic = UsageState({"api_calls": older}, recorded)
    stored = UsageState({"api_calls": older + increase}, recorded)
    decisions = decide_usage(measurements, QUOTA, optimistic)
    update = next((each for each in metric_updates(decisions, optimistic) if each.metric is CALLS), None)
    if update is None:
        return
    is_written = update.max_current is None or older + increase <= update.max_current
    right = decide_usage(measurements, QUOTA, stored)
    if is_written:
        assert [each.outcome for each in decisions] == [each.outcome for each in right]
        assert update.value == next(each.value for each in metric_updates(right, stored) if each.metric is CALLS)
    else:
        assert [each.outcome for each in decisions] != [each.outcome for each in right]


@dataclass
class Sent:
    """Measurement of a request."""

    id: str
    metric: str
    value: int = 1
    action: str = "track"


def test_measurements_get_metric_and_action_by_name() -> None:
    parsed = parse_measurements([Sent("m_1", "api_calls", 3, "consume"), Sent("m_2", "projects")], CATALOG)
    assert parsed == [consume(3), Measurement("m_2", PROJECTS, 1, Action.TRACK)]


def test_invalid_measurements_are_all_refused_with_their_index() -> None:
    sent = [Sent("m_1", "api_calls"), Sent("m_1", "calls"), Sent("m_2", "Runs"), Sent("m_1", "runs")]
    with pytest.raises(RequestInvalid) as refused:
        parse_measurements(sent, CATALOG)
    assert [(each.path, each.message) for each in refused.value.problems] == [
        ("measurements.1.metric", "must be one of: api_calls, runs, projects"),
        ("measurements.1.id", "is the id of another measurement of this request"),
        ("measurements.2.metric", "must be one of: api_calls, runs, projects"),
        ("measurements.3.id", "is the id of another measurement of this request"),
    ]


def test_usage_summary_contains_every_metric() -> None:
    assert summarize_usage(CATALOG.metrics, QUOTA, {"api_calls": 12, "runs": 5}) == [
        MetricUsage("api_calls", 12, 10, 0),
        MetricUsage("runs", 5, None, None),
        MetricUsage("projects", 0, 3, 3),
    ]


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        (datetime(2026, 11, 21, 12, 30, 1, 5, tzinfo=UTC), (2026, 11), (2026, 12)),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), (2026, 12), (2027, 1)),
        (datetime(2027, 1, 1, tzinfo=UTC), (2027, 1), (2027, 2)),
        (datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=1))), (2026, 12), (2027, 1)),
        (datetime(2028, 2, 29, tzinfo=UTC), (2028, 2), (2028, 3)),
    ],
)
def test_calendar_month_of_any_zone_is_in_utc(moment: datetime, start: tuple[int, int], end: tuple[int, int]) -> None:
    assert calendar_month(moment) == Period(datetime(*start, 1, tzinfo=UTC), datetime(*end, 1, tzinfo=UTC))


YEARLY = replace(SUBSCRIPTION, current_period_start=NOW, current_period_end=NOW + timedelta(days=365))


@pytest.mark.parametrize(
    ("subscription", "expected"),
    [
        (YEARLY, Quota(LIMITED, Period(NOW, NOW + timedelta(days=365)))),
        (replace(YEARLY, status="canceled"), Quota(FREE, calendar_month(NOW))),
        (replace(YEARLY, plan=None), Quota(FREE, calendar_month(NOW))),
        (replace(YEARLY, current_period_start=None), Quota(LIMITED, calendar_month(NOW))),
        (None, Quota(FREE, calendar_month(NOW))),
    ],
)
def test_quota_has_period_of_granting_subscription_or_calendar_month(
    subscription: Subscription | None, expected: Quota
) -> None:
    account = Account(Profile("acme"), (subscription,) if subscription else ())
    assert quota_of(account, CATALOG, NOW, POLICY) == expected
