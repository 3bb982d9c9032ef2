"""DynamoDB repository for usage: counters of a period, gauges, and the markers of recorded measurements.

    decide (pure) → write markers and metrics in one transaction
      ↑__________ rejected: decide again with the items that DynamoDB returned

A measurement is recorded once, however often it is sent; its marker holds its content. A `consume` never exceeds its
limit, also with concurrent callers. Item layout: docs/reference/data-model.md.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import batched

from billing.adapters.dynamodb import Item, Table, Write, WriteRejected, key, put, update
from billing.adapters.item_codec import to_seconds
from billing.adapters.repository import GAUGE_PREFIX
from billing.domain.accounts import Account
from billing.domain.errors import StoreUnavailable
from billing.domain.plans import Metric
from billing.domain.usage import (
    Measurement,
    MeasurementOutcome,
    MetricUpdate,
    Period,
    Quota,
    RecordedMeasurement,
    UsageDecision,
    UsageState,
    decide_usage,
    metric_updates,
)

BATCH_SIZE = 50
"""Each measurement may update a metric of its own, and a transaction has at most 100 writes."""
ATTEMPTS_MAX = 20
PAUSE_SECONDS_MAX = 0.5
MEASUREMENT_RETENTION = timedelta(days=35)
COUNTER_RETENTION = timedelta(days=400)
"""Time after the end of the period, so that last year's period can be read."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Measurements that are decided and written together."""

    account_id: str
    quota: Quota
    measurements: Sequence[Measurement]
    now: datetime

    @property
    def metrics(self) -> list[Metric]:
        return list(dict.fromkeys(each.metric for each in self.measurements))


@dataclass(frozen=True, slots=True)
class UsageRepository:
    """Usage of all accounts. Every method raises StoreUnavailable if DynamoDB fails."""

    table: Table
    pause: Callable[[float], None] = time.sleep

    def read_counters(self, account_id: str, period: Period, metrics: Iterable[Metric]) -> Mapping[str, int]:
        """Return the counters of a period by metric id, in one request. Counters without usage are left out."""
        keys = [_metric_key(account_id, period, metric) for metric in metrics if not metric.is_gauge]
        return _used(self.table.batch_get(keys)) if keys else {}

    def set_gauge(self, account_id: str, metric_id: str, value: int) -> None:
        """Set the current value of a gauge."""
        self.table.update(_set_gauge(key(f"ACCOUNT#{account_id}", f"{GAUGE_PREFIX}{metric_id}"), value))

    def record(
        self, account: Account, quota: Quota, measurements: Sequence[Measurement], now: datetime
    ) -> list[UsageDecision]:
        """Decide on measurements in their order and record the accepted ones. Repeating the call is safe.

        Args:
            account: Account with its gauges.
            quota: Limits and period.
            measurements: Measurements with distinct ids.
            now: Time of the request.

        Raises:
            StoreUnavailable: DynamoDB fails, or other writers conflict too often. Batches of 50 before the failed one
                are recorded.
        """
        batches = [
            _Batch(account.profile.account_id, quota, some, now)
            for some in batched(measurements, BATCH_SIZE, strict=False)
        ]
        return [decision for batch in batches for decision in self._record_batch(batch, UsageState(account.gauges))]

    def _record_batch(self, batch: _Batch, known: UsageState) -> list[UsageDecision]:
        """Record a batch. Optimistic: the first attempt writes without reading."""
        for attempt in range(ATTEMPTS_MAX):
            decisions = decide_usage(batch.measurements, batch.quota, known)
            recorded = [each.measurement for each in decisions if each.outcome is MeasurementOutcome.RECORDED]
            updates = metric_updates(decisions, known)
            try:
                if not known.is_authoritative and any(
                    each.outcome is MeasurementOutcome.LIMIT_REACHED for each in decisions
                ):
                    known = self._read(batch, known)
                    continue
                if recorded:
                    self.table.transact(_writes(batch, recorded, updates))
                return decisions
            except WriteRejected as error:
                known = _merge_conflict(known, error, recorded, updates)
                if error.has_conflict:
                    ceiling = min(PAUSE_SECONDS_MAX, 0.02 * 2**attempt)
                    self.pause(random.uniform(0, ceiling))  # noqa: S311 - jitter, no secret
        raise StoreUnavailable

    def _read(self, batch: _Batch, known: UsageState) -> UsageState:
        """Read markers and metrics as of one moment, so that no counter includes a measurement without its marker."""
        markers = [_marker_key(batch.account_id, each) for each in batch.measurements]
        metrics = [_metric_key(batch.account_id, batch.quota.period, metric) for metric in batch.metrics]
        items = self.table.transact_get([*markers, *metrics])
        recorded = {item["id"]: _recorded(item) for item in items if "id" in item}
        return UsageState(
            {**known.used, **_used(item for item in items if "id" not in item)}, recorded, is_authoritative=True
        )


def _merge_conflict(
    known: UsageState, error: WriteRejected, recorded: Sequence[Measurement], updates: Sequence[MetricUpdate]
) -> UsageState:
    """Return the usage state with the items that a rejected transaction returned.

    While another transaction is writing these items, a counter may already include a measurement whose marker is not
    visible. Then only the markers are merged. Without a conflict DynamoDB reports every failed condition, so the other
    markers do not exist, the other measurements fit, and the state is authoritative.
    """
    markers = {
        each.id: _recorded(item)
        for each in recorded
        if error.condition_failed(_marker_name(each)) and (item := error.reasons[_marker_name(each)].item)
    }
    if error.has_conflict:
        return replace(known, recorded={**known.recorded, **markers})
    counters = {
        each.metric.id: item["used"]
        for each in updates
        if error.condition_failed(_metric_name(each)) and (item := error.reasons[_metric_name(each)].item)
    }
    return UsageState({**known.used, **counters}, {**known.recorded, **markers}, is_authoritative=True)


# --- Items ------------------------------------------------------------------------------------------------------------


def _metric_key(account_id: str, period: Period, metric: Metric) -> Item:
    if metric.is_gauge:
        return key(f"ACCOUNT#{account_id}", f"{GAUGE_PREFIX}{metric.id}")
    return key(f"ACCOUNT#{account_id}", f"USAGE#{to_seconds(period.start):012d}#{metric.id}")


def _marker_key(account_id: str, measurement: Measurement) -> Item:
    """Return the key of a marker. Each has its own partition, which keeps load off the account's partition."""
    return key(f"MEASUREMENT#{account_id}#{measurement.id}", "RECORDED")


def _recorded(marker: Item) -> RecordedMeasurement:
    return RecordedMeasurement(marker["metric"], marker["value"], marker.get("action"))


def _used(items: Iterable[Item]) -> dict[str, int]:
    return {item["sk"].rpartition("#")[2]: item["used"] for item in items}


# --- Writes -----------------------------------------------------------------------------------------------------------


def _marker_name(measurement: Measurement) -> str:
    return f"measurement {measurement.id}"


def _metric_name(metric_update: MetricUpdate) -> str:
    return f"metric {metric_update.metric.id}"


def _writes(batch: _Batch, recorded: Sequence[Measurement], updates: Sequence[MetricUpdate]) -> Mapping[str, Write]:
    """Return the writes by name. Markers are first: if only one rejection were reported, it must be a duplicate's.

    Raises:
        ValueError: Two measurements have the same id.
    """
    markers = {_marker_name(each): _put_marker(batch.account_id, each, batch.now) for each in recorded}
    if len(markers) < len(recorded):
        raise ValueError("Two measurements have the same id")
    return markers | {_metric_name(each): _update_metric(each, batch) for each in updates}


def _put_marker(account_id: str, measurement: Measurement, now: datetime) -> Write:
    content = {"metric": measurement.metric.id, "value": measurement.value, "action": measurement.action}
    times = {"recorded": to_seconds(now), "expires_at": to_seconds(now + MEASUREMENT_RETENTION)}
    item = _marker_key(account_id, measurement) | {"id": measurement.id} | content | times
    return put(item, "attribute_not_exists(pk)")


def _update_metric(metric_update: MetricUpdate, batch: _Batch) -> Write:
    item_key = _metric_key(batch.account_id, batch.quota.period, metric_update.metric)
    if metric_update.metric.is_gauge:
        return _set_gauge(item_key, metric_update.value)
    expires_at = to_seconds(batch.quota.period.end + COUNTER_RETENTION)
    values = {":value": metric_update.value, ":expires": expires_at}
    expression = "ADD #used :value SET expires_at = :expires"
    if metric_update.max_current is None:
        return update(item_key, expression, values)
    values[":max"] = metric_update.max_current
    return update(item_key, expression, values, "attribute_not_exists(pk) OR #used <= :max")


def _set_gauge(item_key: Item, value: int) -> Write:
    return update(item_key, "SET #used = :value", {":value": value})
