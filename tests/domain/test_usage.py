"""What is recorded, what is refused, and for which period."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.accounts import Account, Profile
from billing.domain.errors import RequestInvalid
from billing.domain.plans import Catalog, Metric, MetricKind, Plan, Price
from billing.domain.subscriptions import Subscription
from billing.domain.usage import (
    Action,
    Measurement,
    MeasurementOutcome,
    MetricUpdate,
    MetricUsage,
    Period,
    Quota,
    UsageDecision,
    UsageState,
    decide_usage,
    metric_updates,
    month_of,
    read_measurements,
    summarize_usage,
)
from tests.samples import NOW, SUBSCRIPTION

CALLS = Metric("api_calls", "API calls", MetricKind.COUNTER)
RUNS = Metric("runs", "Runs", MetricKind.COUNTER)
PROJECTS = Metric("projects", "Projects", MetricKind.GAUGE)
LIMITED = Plan("pro", "Pro", (Price("pro_monthly", 1900, "usd", "month"),), limits={"api_calls": 10, "projects": 3})
FREE = Plan("free", "Free", limits={"api_calls": 1})
CATALOG = Catalog((FREE, LIMITED), (CALLS, RUNS, PROJECTS))
QUOTA = Quota(LIMITED, month_of(NOW))
GRACE = timedelta(days=14)


def consume(value: int, metric: Metric = CALLS, *, id: str = "m_1") -> Measurement:  # noqa: A002 - what it is
    """A measurement that asks first."""
    return Measurement(id, metric, value, Action.CONSUME)


def track(value: int, metric: Metric = CALLS, *, id: str = "m_1") -> Measurement:  # noqa: A002
    """A measurement that counts in any case."""
    return Measurement(id, metric, value)


def outcomes(decisions: Sequence[UsageDecision]) -> list[tuple[MeasurementOutcome, int]]:
    """What became of each, and what was used after it."""
    return [(each.outcome, each.used) for each in decisions]


def test_consume_is_refused_from_the_limit_on() -> None:
    """The limit itself can be used up, and one more is refused; what is smaller may still fit."""
    decisions = decide_usage([consume(9), consume(2), consume(1), consume(1)], QUOTA, UsageState({}))
    assert outcomes(decisions) == [
        (MeasurementOutcome.RECORDED, 9),
        (MeasurementOutcome.LIMIT_REACHED, 9),
        (MeasurementOutcome.RECORDED, 10),
        (MeasurementOutcome.LIMIT_REACHED, 10),
    ]
    assert {each.limit for each in decisions} == {10}


def test_track_passes_the_limit() -> None:
    """What was used was used; afterwards nothing more can be consumed."""
    decisions = decide_usage([track(12), consume(0), track(1)], QUOTA, UsageState({}))
    assert outcomes(decisions) == [
        (MeasurementOutcome.RECORDED, 12),
        (MeasurementOutcome.LIMIT_REACHED, 12),
        (MeasurementOutcome.RECORDED, 13),
    ]


def test_without_a_limit_everything_is_recorded() -> None:
    """A plan that does not name a metric does not limit it."""
    [decision] = decide_usage([consume(10**12, RUNS)], QUOTA, UsageState({"runs": 10**15}))
    assert decision == UsageDecision(consume(10**12, RUNS), MeasurementOutcome.RECORDED, 10**15 + 10**12, None)


def test_a_gauge_is_set() -> None:
    """It holds the last value that was recorded, also a smaller one; consume refuses more than the limit."""
    asked = [track(7, PROJECTS), consume(4, PROJECTS), consume(3, PROJECTS), track(1, PROJECTS)]
    decisions = decide_usage(asked, QUOTA, UsageState({"projects": 2}))
    assert outcomes(decisions) == [
        (MeasurementOutcome.RECORDED, 7),
        (MeasurementOutcome.LIMIT_REACHED, 7),
        (MeasurementOutcome.RECORDED, 3),
        (MeasurementOutcome.RECORDED, 1),
    ]
    assert metric_updates(decisions, UsageState({"projects": 2})) == [MetricUpdate(PROJECTS, 1, None)]


def test_what_was_recorded_before_changes_nothing() -> None:
    """Neither the counter nor what may follow; also where it would not fit any more."""
    known = UsageState({"api_calls": 10}, frozenset({"m_2"}))
    decisions = decide_usage([consume(20, id="m_2"), consume(1)], QUOTA, known)
    assert outcomes(decisions) == [(MeasurementOutcome.DUPLICATE, 10), (MeasurementOutcome.LIMIT_REACHED, 10)]
    assert metric_updates(decisions, known) == []


def test_changes_are_one_for_each_metric() -> None:
    """In a transaction a row can be written once: a counter grows by the sum, as long as every consume has room."""
    asked = [consume(2), track(1, RUNS), track(3), consume(4), track(50), track(2, PROJECTS)]
    known = UsageState({"api_calls": 1})
    changes = metric_updates(decide_usage(asked, QUOTA, known), known)
    assert changes == [MetricUpdate(CALLS, 59, 1), MetricUpdate(RUNS, 1, None), MetricUpdate(PROJECTS, 2, None)]


def test_what_is_told_of_a_decision() -> None:
    """How much is used, and of how much, belongs to a refusal alone."""
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
IDS = st.frozensets(st.sampled_from([f"m_{number}" for number in range(8)]))


@given(MEASUREMENTS, VALUES, IDS)
def test_each_decision_follows_from_those_before_it(
    measurements: list[Measurement], used: int, recorded: frozenset[str]
) -> None:
    """In the order they came: a consume never leads beyond the limit, and what is refused would have."""
    count = used
    for each in decide_usage(measurements, QUOTA, UsageState({"api_calls": used}, recorded)):
        asked = each.measurement
        assert (each.outcome is MeasurementOutcome.DUPLICATE) is (asked.id in recorded)
        if asked.metric is not CALLS or each.outcome is MeasurementOutcome.DUPLICATE:
            continue
        passes = asked.action is Action.CONSUME and count + asked.value > 10
        assert each.outcome is (MeasurementOutcome.LIMIT_REACHED if passes else MeasurementOutcome.RECORDED)
        count += 0 if passes else asked.value
        assert each.used == count


@given(MEASUREMENTS, VALUES, VALUES, IDS)
def test_what_is_written_is_what_the_actual_count_allows(
    measurements: list[Measurement], known: int, more: int, recorded: frozenset[str]
) -> None:
    """Decisions made on an older count are written only where they are those of the count that is there."""
    guess, actual = UsageState({"api_calls": known}, recorded), UsageState({"api_calls": known + more}, recorded)
    decisions = decide_usage(measurements, QUOTA, guess)
    change = next((each for each in metric_updates(decisions, guess) if each.metric is CALLS), None)
    if change is None:
        return
    is_written = change.max_current is None or known + more <= change.max_current
    right = decide_usage(measurements, QUOTA, actual)
    if is_written:
        assert [each.outcome for each in decisions] == [each.outcome for each in right]
        assert change.value == next(each.value for each in metric_updates(right, actual) if each.metric is CALLS)
    else:
        assert [each.outcome for each in decisions] != [each.outcome for each in right]


@dataclass
class Sent:
    """A measurement as a caller sends it."""

    id: str
    metric: str
    value: int = 1
    action: str = "track"


def test_measurements_name_metrics_of_the_catalog() -> None:
    """By its id each gets the catalog's metric and an action."""
    read = read_measurements([Sent("m_1", "api_calls", 3, "consume"), Sent("m_2", "projects")], CATALOG)
    assert read == [consume(3), Measurement("m_2", PROJECTS, 1, Action.TRACK)]


def test_every_wrong_measurement_is_told() -> None:
    """With its place: a metric that is none of ours, and an id that another one of the request has."""
    sent = [Sent("m_1", "api_calls"), Sent("m_1", "calls"), Sent("m_2", "Runs"), Sent("m_1", "runs")]
    with pytest.raises(RequestInvalid) as refused:
        read_measurements(sent, CATALOG)
    assert [(each.path, each.message) for each in refused.value.problems] == [
        ("measurements.1.metric", "must be one of: api_calls, runs, projects"),
        ("measurements.1.id", "is the id of another measurement of this request"),
        ("measurements.2.metric", "must be one of: api_calls, runs, projects"),
        ("measurements.3.id", "is the id of another measurement of this request"),
    ]


def test_usage_shows_every_metric() -> None:
    """Used or not; nothing remains where a track passed the limit, and without a limit there is no remainder."""
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
def test_a_month_is_utcs(moment: datetime, start: tuple[int, int], end: tuple[int, int]) -> None:
    """From its first instant to the next one's."""
    assert month_of(moment) == Period(datetime(*start, 1, tzinfo=UTC), datetime(*end, 1, tzinfo=UTC))


YEARLY = replace(SUBSCRIPTION, current_period_start=NOW, current_period_end=NOW + timedelta(days=365))


@pytest.mark.parametrize(
    ("subscription", "expected"),
    [
        (YEARLY, Quota(LIMITED, Period(NOW, NOW + timedelta(days=365)))),
        (replace(YEARLY, status="canceled"), Quota(FREE, month_of(NOW))),
        (replace(YEARLY, plan=None), Quota(FREE, month_of(NOW))),
        (replace(YEARLY, current_period_start=None), Quota(LIMITED, month_of(NOW))),
        (None, Quota(FREE, month_of(NOW))),
    ],
)
def test_the_period_is_that_of_what_is_paid(subscription: Subscription | None, expected: Quota) -> None:
    """A subscription that grants its plan counts in its own period; everything else in the calendar's month."""
    account = Account(Profile("acme"), (subscription,) if subscription else ())
    assert account.quota(CATALOG, NOW, GRACE) == expected
