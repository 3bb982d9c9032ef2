"""How often a user, a key and an account may ask: counted in the table, so the same for all functions.

One row an account and hour holds the account's count of the hour and each user's or key's count of each minute, so
that one conditional update decides on both limits and takes from both, or from none. Windows are fixed: they begin with
the minute and the hour (UTC). What is refused is not counted.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from billing.adapters.dynamodb import Item, Table, Write, WriteRejected, key, update
from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import RateLimited

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
RETENTION = timedelta(hours=1)
EXHAUSTED_MAX = 1000


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """What is left in the window that has least left; `reset_seconds` until it is whole again."""

    limit: int
    remaining: int
    reset_seconds: int


@dataclass(frozen=True, slots=True)
class _Window:
    """One of the two counts that a request adds to; `attribute` of the row `sk` holds it."""

    attribute: str
    limit: int
    ends: datetime

    def seconds_left(self, now: datetime) -> int:
        return max(1, -(-(self.ends - now) // timedelta(seconds=1)))


@dataclass(slots=True)
class RateLimiter:
    """Counts requests. A window that is known to be exhausted is refused without asking the table again."""

    table: Table
    per_minute: int
    per_hour: int
    _exhausted: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def acquire(self, credential: Credential, now: datetime) -> RateLimitStatus:
        """Count one request. Raises RateLimited, and StoreUnavailable if it could not be counted."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        minute = now.replace(second=0, microsecond=0)
        row = key(f"RATE#{_limit_partition_key(credential)}", f"{hour:%Y-%m-%dT%H}")
        windows = (
            _Window("hour_requests", self.per_hour, hour + HOUR),
            _Window(_window_attribute(credential.subject, minute), self.per_minute, minute + MINUTE),
        )
        known = [each for each in windows if now < self._exhausted.get((row["pk"], each.attribute), now)]
        if known:
            raise _limited(known, now)
        try:
            counts = self.table.update(_take_one(row, windows, expires=hour + HOUR + RETENTION))
        except WriteRejected as error:
            counts = error.reasons["update"].item or {}
            raise self._refuse(row["pk"], windows, counts, now) from None
        return min(
            (
                RateLimitStatus(each.limit, each.limit - counts[each.attribute], each.seconds_left(now))
                for each in windows
            ),
            key=lambda status: status.remaining,
        )

    def _refuse(self, pk: str, windows: Sequence[_Window], counts: Mapping[str, int], now: datetime) -> RateLimited:
        exhausted = [each for each in windows if counts.get(each.attribute, 0) >= each.limit]
        if len(self._exhausted) > EXHAUSTED_MAX:
            self._exhausted.clear()
        self._exhausted |= {(pk, each.attribute): each.ends for each in exhausted}
        return _limited(exhausted, now)


def _take_one(row: Item, windows: Sequence[_Window], expires: datetime) -> Write:
    names = [each.attribute for each in windows]
    limits = {f":limit_{place}": each.limit for place, each in enumerate(windows)}
    return update(
        row,
        f"SET expires_at = :expires ADD {', '.join(f'{name} :one' for name in names)}",
        {":one": 1, ":expires": int(expires.timestamp())} | limits,
        " AND ".join(
            f"(attribute_not_exists({name}) OR {name} < {limit})" for name, limit in zip(names, limits, strict=True)
        ),
    )


def _limit_partition_key(credential: Credential) -> str:
    """Whose hour a request takes from. A publishable key is everybody's, so it must not use up its account's."""
    is_public = credential.kind is CredentialKind.PUBLISHABLE_KEY
    return f"{credential.account_id}#{credential.subject}" if is_public else credential.account_id


def _limited(windows: Sequence[_Window], now: datetime) -> RateLimited:
    longest = max(windows, key=lambda window: window.ends)
    return RateLimited(longest.limit, longest.seconds_left(now))


def _window_attribute(subject: str, minute: datetime) -> str:
    """A name of ten hexadecimal digits: 40 bits keep the users of one account apart, and the row small."""
    return f"m{minute:%M}_{hashlib.sha256(subject.encode()).hexdigest()[:10]}"
