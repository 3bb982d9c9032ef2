"""How much of its plan an account uses.

Counters add up what was done in a billing period; gauges say how much there is now. A measurement is recorded once,
by its id: `track` always counts, `consume` only within the plan's limit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from billing.domain.errors import Problem, RequestInvalid
from billing.domain.plans import Catalog, Metric, Plan

MONTHS_OF_A_YEAR = 12


class Action(StrEnum):
    """What a measurement asks for."""

    TRACK = "track"
    CONSUME = "consume"


class MeasurementOutcome(StrEnum):
    """What became of a measurement."""

    RECORDED = "recorded"
    DUPLICATE = "duplicate"
    LIMIT_REACHED = "limit_reached"


@dataclass(frozen=True, slots=True)
class Period:
    """The time that a counter counts: from `start` until just before `end`, UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may use at a moment: its plan's limits, in a period."""

    plan: Plan
    period: Period

    def limit(self, metric: Metric) -> int | None:
        """How much of a metric; None is unlimited."""
        return self.plan.limits.get(metric.id)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was used: how many more of a counter, how many in all of a gauge. The account's own `id` makes it one."""

    id: str
    metric: Metric
    value: int
    action: Action = Action.TRACK


@dataclass(frozen=True, slots=True)
class UsageState:
    """What is known of the table when measurements are decided on.

    `used`, by metric, is what a counter holds at the least and what a gauge held last; `recorded` are ids that were
    found. `is_read`: every measurement and counter that matters was looked at; until then nothing may be refused.
    """

    used: Mapping[str, int]
    recorded: frozenset[str] = frozenset()
    is_authoritative: bool = False


@dataclass(frozen=True, slots=True)
class UsageDecision:
    """What is to become of a measurement. `used`, of its metric, is after it; a `limit` of None is unlimited."""

    measurement: Measurement
    outcome: MeasurementOutcome
    used: int
    limit: int | None

    @property
    def result(self) -> Mapping[str, str | int | None]:
        """What its caller is told; how much is used, and of how much, only where that is the reason."""
        told: dict[str, str | int | None] = {"id": self.measurement.id, "outcome": self.outcome}
        return (
            told | {"used": self.used, "limit": self.limit}
            if self.outcome is MeasurementOutcome.LIMIT_REACHED
            else told
        )


@dataclass(frozen=True, slots=True)
class MetricUpdate:
    """What the recorded measurements of a metric do to it: a counter grows by `value`, a gauge becomes it.

    The decisions stand only if the counter holds `used_at_most` when they are written; None: whatever it holds.
    """

    metric: Metric
    value: int
    max_current: int | None


@dataclass(frozen=True, slots=True)
class MetricUsage:
    """How much of a metric is used. None is unlimited; what passed the limit leaves 0 `remaining`."""

    metric: str
    used: int
    limit: int | None
    remaining: int | None


class MeasurementFields(Protocol):
    """A measurement as a caller sends it, its types checked."""

    id: str
    metric: str
    value: int
    action: str


def month_of(moment: datetime) -> Period:
    """The calendar month in UTC: the period of an account that pays for none."""
    start = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    years, month = divmod(start.month, MONTHS_OF_A_YEAR)
    return Period(start, start.replace(year=start.year + years, month=month + 1))


def read_measurements(sent: Sequence[MeasurementFields], catalog: Catalog) -> list[Measurement]:
    """What a request asks to record. Raises RequestInvalid for metrics that are not ours and ids that come twice."""
    metrics = {metric.id: metric for metric in catalog.metrics}
    first_places: dict[str, int] = {}
    problems = []
    for place, each in enumerate(sent):
        if each.metric not in metrics:
            problems.append(Problem(f"measurements.{place}.metric", f"must be one of: {', '.join(metrics)}"))
        if first_places.setdefault(each.id, place) != place:
            problems.append(Problem(f"measurements.{place}.id", "is the id of another measurement of this request"))
    if problems:
        raise RequestInvalid(problems)
    return [Measurement(each.id, metrics[each.metric], each.value, Action(each.action)) for each in sent]


def decide_usage(measurements: Iterable[Measurement], quota: Quota, known: UsageState) -> list[UsageDecision]:
    """What becomes of measurements, one after the other, if the table is as it is known."""
    used = dict(known.used)
    decisions = []
    for each in measurements:
        limit = quota.limit(each.metric)
        after = each.value if each.metric.is_gauge else used.get(each.metric.id, 0) + each.value
        outcome = MeasurementOutcome.RECORDED
        if each.id in known.recorded:
            outcome = MeasurementOutcome.DUPLICATE
        elif each.action is Action.CONSUME and limit is not None and after > limit:
            outcome = MeasurementOutcome.LIMIT_REACHED
        else:
            used[each.metric.id] = after
        decisions.append(UsageDecision(each, outcome, used.get(each.metric.id, 0), limit))
    return decisions


def metric_updates(decisions: Iterable[UsageDecision], known: UsageState) -> list[MetricUpdate]:
    """What the decisions that were made on `known` do, metric by metric.

    A counter never shrinks within its period. So as long as it holds no more than leaves room for every recorded
    `consume`, what was refused at less would be refused now, and the decisions are those of the actual count.
    """
    recorded: dict[Metric, list[UsageDecision]] = {}
    for each in decisions:
        if each.outcome is MeasurementOutcome.RECORDED:
            recorded.setdefault(each.measurement.metric, []).append(each)
    return [_change(metric, each, known.used.get(metric.id, 0)) for metric, each in recorded.items()]


def _change(metric: Metric, recorded: Sequence[UsageDecision], before: int) -> MetricUpdate:
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
    """Every metric with what is used of it; a metric that `used` does not name is unused."""
    return [_usage(metric, used.get(metric.id, 0), quota.limit(metric)) for metric in metrics]


def _usage(metric: Metric, used: int, limit: int | None) -> MetricUsage:
    return MetricUsage(metric.id, used, limit, None if limit is None else max(0, limit - used))
