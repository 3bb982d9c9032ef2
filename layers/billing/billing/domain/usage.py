"""Usage: measurements, and an account's quota.

A counter adds up measurements over a billing period. A gauge states the current number. A measurement is recorded once,
by its id: `track` records it in any case, `consume` only within the plan's limit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from billing.domain.accounts import Account
from billing.domain.errors import Problem, RequestInvalid
from billing.domain.plans import Catalog, Metric, Plan

MONTHS_PER_YEAR = 12


class Action(StrEnum):
    """Treatment of the plan's limit: `track` ignores it, `consume` enforces it."""

    TRACK = "track"
    CONSUME = "consume"


class MeasurementOutcome(StrEnum):
    """Result of a measurement."""

    RECORDED = "recorded"
    DUPLICATE = "duplicate"
    LIMIT_REACHED = "limit_reached"


@dataclass(frozen=True, slots=True)
class Period:
    """Period of a counter: from `start` to just before `end`, in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of an account's plan in the current period."""

    plan: Plan
    period: Period

    def limit(self, metric: Metric) -> int | None:
        """Return the limit of a metric; None is unlimited."""
        return self.plan.limits.get(metric.id)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A use of a metric.

    Attributes:
        id: Id from the caller, unique within the account.
        metric: Metric that is used.
        value: Amount to add to a counter, or new value of a gauge.
        action: Treatment of the plan's limit.
    """

    id: str
    metric: Metric
    value: int
    action: Action = Action.TRACK


@dataclass(frozen=True, slots=True)
class UsageState:
    """State of the table on which measurements are decided.

    Attributes:
        used: By metric, a lower bound of a counter, or the value of a gauge when it was last read.
        recorded: Ids of measurements that are known to be stored.
        is_authoritative: True if every relevant marker and counter is known. Otherwise no measurement may be rejected.
    """

    used: Mapping[str, int]
    recorded: frozenset[str] = frozenset()
    is_authoritative: bool = False


@dataclass(frozen=True, slots=True)
class UsageDecision:
    """Decision on a measurement.

    Attributes:
        measurement: Measurement that was decided on.
        outcome: Result.
        used: Value of the metric after the decision.
        limit: Limit of the metric; None is unlimited.
    """

    measurement: Measurement
    outcome: MeasurementOutcome
    used: int
    limit: int | None

    @property
    def result(self) -> Mapping[str, str | int | None]:
        """Result for the response. Only `limit_reached` states `used` and `limit`."""
        result: dict[str, str | int | None] = {"id": self.measurement.id, "outcome": self.outcome}
        if self.outcome is MeasurementOutcome.LIMIT_REACHED:
            return result | {"used": self.used, "limit": self.limit}
        return result


@dataclass(frozen=True, slots=True)
class MetricUpdate:
    """Effect of all recorded measurements on one metric.

    Attributes:
        metric: Metric to update.
        value: Amount to add to a counter, or new value of a gauge.
        max_current: Greatest value of the stored counter for which the decisions hold; None if they hold for any value.
    """

    metric: Metric
    value: int
    max_current: int | None


@dataclass(frozen=True, slots=True)
class MetricUsage:
    """Usage of a metric. `limit` and `remaining` are None if it is unlimited; `remaining` is 0 beyond the limit."""

    metric: str
    used: int
    limit: int | None
    remaining: int | None


class MeasurementFields(Protocol):
    """Measurement of a request, with checked types."""

    id: str
    metric: str
    value: int
    action: str


def calendar_month(moment: datetime) -> Period:
    """Return the calendar month of a time, in UTC."""
    start = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    years, month = divmod(start.month, MONTHS_PER_YEAR)
    return Period(start, start.replace(year=start.year + years, month=month + 1))


def quota_of(account: Account, catalog: Catalog, now: datetime, grace: timedelta) -> Quota:
    """Return an account's quota.

    | shown subscription | plan | period |
    |---|---|---|
    | grants a plan | that plan | its billing period, or the calendar month if the period is unknown |
    | grants none, or there is none | first plan of the catalog | calendar month |

    Args:
        account: Account with its subscriptions.
        catalog: Plans in ascending order.
        now: Current time.
        grace: Time for which a `past_due` subscription grants access.
    """
    shown = account.shown_subscription(catalog, now, grace)
    plan = catalog.plan(shown.granted_plan(catalog, now, grace) or "") if shown else None
    if shown is None or plan is None:
        return Quota(catalog.free, calendar_month(now))
    if shown.current_period_start is None or shown.current_period_end is None:
        return Quota(plan, calendar_month(now))
    return Quota(plan, Period(shown.current_period_start, shown.current_period_end))


def parse_measurements(sent: Sequence[MeasurementFields], catalog: Catalog) -> list[Measurement]:
    """Return the measurements of a request.

    Raises:
        RequestInvalid: A metric is not in the catalog, or two measurements have the same id. All problems are listed.
    """
    metrics = {metric.id: metric for metric in catalog.metrics}
    index_by_id: dict[str, int] = {}
    problems = []
    for index, each in enumerate(sent):
        if each.metric not in metrics:
            problems.append(Problem(f"measurements.{index}.metric", f"must be one of: {', '.join(metrics)}"))
        if index_by_id.setdefault(each.id, index) != index:
            problems.append(Problem(f"measurements.{index}.id", "is the id of another measurement of this request"))
    if problems:
        raise RequestInvalid(problems)
    return [Measurement(each.id, metrics[each.metric], each.value, Action(each.action)) for each in sent]


def decide_usage(measurements: Iterable[Measurement], quota: Quota, state: UsageState) -> list[UsageDecision]:
    """Decide on measurements in their order, each on the result of those before it.

    Args:
        measurements: Measurements to record.
        quota: Limits of the account.
        state: State of the table before the first measurement.
    """
    used = dict(state.used)
    decisions = []
    for each in measurements:
        limit = quota.limit(each.metric)
        after = each.value if each.metric.is_gauge else used.get(each.metric.id, 0) + each.value
        outcome = MeasurementOutcome.RECORDED
        if each.id in state.recorded:
            outcome = MeasurementOutcome.DUPLICATE
        elif each.action is Action.CONSUME and limit is not None and after > limit:
            outcome = MeasurementOutcome.LIMIT_REACHED
        else:
            used[each.metric.id] = after
        decisions.append(UsageDecision(each, outcome, used.get(each.metric.id, 0), limit))
    return decisions


def metric_updates(decisions: Iterable[UsageDecision], state: UsageState) -> list[MetricUpdate]:
    """Return the effect of decisions, one update for each metric.

    A counter never decreases within its period. If the stored counter is at most `max_current`, every recorded
    `consume` still fits, and every refused one still exceeds the limit. The decisions then equal those on the stored
    value, even if `state` is older.

    Args:
        decisions: Result of `decide_usage`.
        state: State on which the decisions were made.
    """
    recorded: dict[Metric, list[UsageDecision]] = {}
    for each in decisions:
        if each.outcome is MeasurementOutcome.RECORDED:
            recorded.setdefault(each.measurement.metric, []).append(each)
    return [_metric_update(metric, each, state.used.get(metric.id, 0)) for metric, each in recorded.items()]


def _metric_update(metric: Metric, recorded: Sequence[UsageDecision], before: int) -> MetricUpdate:
    after = recorded[-1].used
    if metric.is_gauge:
        return MetricUpdate(metric, after, None)
    room = [
        each.limit - each.used
        for each in recorded
        if each.limit is not None and each.measurement.action is Action.CONSUME
    ]
    return MetricUpdate(metric, after - before, before + min(room) if room else None)


def summarize_usage(metrics: Iterable[Metric], quota: Quota, used: Mapping[str, int]) -> list[MetricUsage]:
    """Return the usage of every metric. A metric that `used` does not contain has usage 0."""
    return [_metric_usage(metric, used.get(metric.id, 0), quota.limit(metric)) for metric in metrics]


def _metric_usage(metric: Metric, used: int, limit: int | None) -> MetricUsage:
    return MetricUsage(metric.id, used, limit, None if limit is None else max(0, limit - used))
