"""What accounts have used: the counters of a period, the gauges, and which measurements are in them.

    decide (pure) → write the measurements' markers and what they count in one transaction
      ↑____________ refused: the rows in the way tell what was not known ____________|

So a measurement counts once however often it is sent, and a `consume` never passes its limit whoever else consumes.
docs/reference/data-model.md draws the rows.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import batched

from billing.adapters.dynamodb import Item, Table, Write, WriteRejected, key, put, update
from billing.adapters.repository import GAUGE
from billing.domain.accounts import Account
from billing.domain.errors import StoreUnavailable
from billing.domain.plans import Metric
from billing.domain.usage import (
    Measurement,
    MeasurementOutcome,
    MetricUpdate,
    Period,
    Quota,
    UsageDecision,
    UsageState,
    decide_usage,
    metric_updates,
)

BATCH_SIZE = 50
"""Each measurement may change a metric of its own, and a transaction has 100 writes at most (DynamoDB's limit)."""
ATTEMPTS_MAX = 20
PAUSE_SECONDS_MAX = 0.5
MEASUREMENT_RETENTION = timedelta(days=35)
COUNTER_RETENTION = timedelta(days=400)
"""After the period's end: last year's period can still be looked up."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is decided and written together."""

    account_id: str
    quota: Quota
    measurements: Sequence[Measurement]
    now: datetime

    @property
    def metrics(self) -> list[Metric]:
        return list(dict.fromkeys(each.metric for each in self.measurements))


@dataclass(frozen=True, slots=True)
class UsageRepository:
    """The table, by what is asked of usage."""

    table: Table
    pause: Callable[[float], None] = time.sleep

    def read_counters(self, account_id: str, period: Period, metrics: Iterable[Metric]) -> Mapping[str, int]:
        """What the counters of a period hold, by metric, in one request. One that never counted is left out."""
        places = [_place(account_id, period, metric) for metric in metrics if not metric.is_gauge]
        return _used(self.table.batch_get(places)) if places else {}

    def set_gauge(self, account_id: str, metric_id: str, value: int) -> None:
        """Say how much there is of something now."""
        self.table.update(_set_gauge(key(f"ACCOUNT#{account_id}", f"{GAUGE}{metric_id}"), value))

    def record(
        self, account: Account, quota: Quota, measurements: Sequence[Measurement], now: datetime
    ) -> list[UsageDecision]:
        """Decide on measurements in their order, and write what is recorded; safe to repeat.

        Raises StoreUnavailable where too much was in the way; up to there, by the fifty, all is recorded or nothing.
        """
        batches = [
            _Batch(account.profile.account_id, quota, some, now)
            for some in batched(measurements, BATCH_SIZE, strict=False)
        ]
        return [decision for batch in batches for decision in self._settle(batch, UsageState(account.gauges))]

    def _settle(self, batch: _Batch, known: UsageState) -> list[UsageDecision]:
        """The first attempt reads nothing: it counts on room for all."""
        for attempt in range(ATTEMPTS_MAX):
            decisions = decide_usage(batch.measurements, batch.quota, known)
            recorded = [each.measurement for each in decisions if each.outcome is MeasurementOutcome.RECORDED]
            changes = metric_updates(decisions, known)
            try:
                if not known.is_authoritative and any(
                    each.outcome is MeasurementOutcome.LIMIT_REACHED for each in decisions
                ):
                    known = self._read(batch, known)
                    continue
                if recorded:
                    self.table.transact(_writes(batch, recorded, changes))
                return decisions
            except WriteRejected as refused:
                known = _merge_conflict(known, refused, recorded, changes)
                if _is_conflict(refused):
                    ceiling = min(PAUSE_SECONDS_MAX, 0.02 * 2**attempt)
                    self.pause(random.uniform(0, ceiling))  # noqa: S311 - jitter, no secret
        raise StoreUnavailable

    def _read(self, batch: _Batch, known: UsageState) -> UsageState:
        """One snapshot of everything: a count with a measurement in it must not be seen without its marker."""
        markers = [_marker_place(batch.account_id, each) for each in batch.measurements]
        counters = [_place(batch.account_id, batch.quota.period, metric) for metric in batch.metrics]
        items = self.table.snapshot([*markers, *counters])
        recorded = frozenset(item["id"] for item in items if "id" in item)
        return UsageState(
            {**known.used, **_used(item for item in items if "id" not in item)}, recorded, is_authoritative=True
        )


def _is_conflict(refused: WriteRejected) -> bool:
    return not all(each.by_condition for each in refused.reasons.values())


def _merge_conflict(
    known: UsageState, refused: WriteRejected, recorded: Sequence[Measurement], changes: Sequence[MetricUpdate]
) -> UsageState:
    """What a refused transaction tells of the table.

    While another transaction is at work on these rows its marker may not show yet where its count does: then only
    markers are believed.
    """
    found = [(place, each.found) for place, each in refused.reasons.items() if each.by_condition]
    markers = frozenset(recorded[place].id for place, _ in found if place < len(recorded))
    if _is_conflict(refused):
        return replace(known, recorded=known.recorded | markers)
    counters = {
        changes[place - len(recorded)].metric.id: item["used"]
        for place, item in found
        if place >= len(recorded) and item is not None
    }
    return UsageState({**known.used, **counters}, known.recorded | markers, is_authoritative=True)


# --- rows -------------------------------------------------------------------------------------------------------------


def _place(account_id: str, period: Period, metric: Metric) -> Item:
    if metric.is_gauge:
        return key(f"ACCOUNT#{account_id}", f"{GAUGE}{metric.id}")
    return key(f"ACCOUNT#{account_id}", f"USAGE#{_seconds(period.start):012d}#{metric.id}")


def _marker_place(account_id: str, measurement: Measurement) -> Item:
    """A partition of its own, which takes load off the counters'."""
    return key(f"MEASUREMENT#{account_id}#{measurement.id}", "RECORDED")


def _used(items: Iterable[Item]) -> dict[str, int]:
    return {item["sk"].rpartition("#")[2]: item["used"] for item in items}


def _writes(batch: _Batch, recorded: Sequence[Measurement], changes: Sequence[MetricUpdate]) -> list[Write]:
    """Markers first: where DynamoDB would tell only the first refusal, it must be the duplicate's."""
    return [
        *(_put_marker(batch.account_id, each, batch.now) for each in recorded),
        *(_put_change(_place(batch.account_id, batch.quota.period, each.metric), each, batch) for each in changes),
    ]


def _put_marker(account_id: str, measurement: Measurement, now: datetime) -> Write:
    facts = {"id": measurement.id, "metric": measurement.metric.id, "value": measurement.value}
    times = {"recorded": _seconds(now), "expires_at": _seconds(now + MEASUREMENT_RETENTION)}
    return put(_marker_place(account_id, measurement) | facts | times, "attribute_not_exists(pk)")


def _put_change(place: Item, change: MetricUpdate, batch: _Batch) -> Write:
    if change.metric.is_gauge:
        return _set_gauge(place, change.value)
    values = {":value": change.value, ":expires": _seconds(batch.quota.period.end + COUNTER_RETENTION)}
    grow = "ADD #used :value SET expires_at = :expires"
    if change.max_current is None:
        return update(place, grow, values)
    values[":most"] = change.max_current
    return update(place, grow, values, "attribute_not_exists(pk) OR #used <= :most")


def _set_gauge(place: Item, value: int) -> Write:
    return update(place, "SET #used = :value", {":value": value})


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
