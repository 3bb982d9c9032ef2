"""Rate limits per user, key and account, counted in DynamoDB.

| caller | limit per minute | limit per hour | item: its partition key, and the hour |
|---|---|---|---|
| user | of the user | of all users of the account together | `RATE#account` |
| secret key | of the key | of all secret keys of the account together | `RATE#account#keys` |
| publishable key | of the key and client network | of the key and client network | `RATE#account#key#network` |

Users cannot use up the hour of the account's servers. A publishable key is public, so each of its clients has limits of
its own. Both limits of a request are in one item. One conditional update increments both counters or neither. Windows
are fixed and begin with the UTC minute and hour. Rejected requests are not counted.

An item has an attribute for each user or key and minute, so at most one for each permitted request of the hour.
`billing.settings.RATE_LIMIT_MAX` keeps it below 400 KB, the largest item of DynamoDB.
"""

import hashlib
import socket
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
    """Limit and remaining requests of the window with the fewest remaining; `reset_seconds` until it ends."""

    limit: int
    remaining: int
    reset_seconds: int


@dataclass(frozen=True, slots=True)
class _Window:
    """Counter of requests until `ends`; `attribute` holds it."""

    attribute: str
    limit: int
    ends: datetime

    def seconds_left(self, now: datetime) -> int:
        return max(1, -(-(self.ends - now) // timedelta(seconds=1)))


@dataclass(slots=True)
class RateLimiter:
    """Limiter of requests. If a window is exhausted, requests are rejected without a write until it ends."""

    table: Table
    per_minute: int
    per_hour: int
    _exhausted: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def acquire(self, credential: Credential, now: datetime, client_address: str = "") -> RateLimitStatus:
        """Count one request.

        Args:
            credential: Credential of the request.
            now: Time of the request.
            client_address: IP address that the request comes from.

        Raises:
            RateLimited: A window is exhausted.
            StoreUnavailable: The request could not be counted.
        """
        hour = now.replace(minute=0, second=0, microsecond=0)
        minute = now.replace(second=0, microsecond=0)
        item_key = key(_limit_partition_key(credential, client_address), f"{hour:%Y-%m-%dT%H}")
        windows = (
            _Window("hour_requests", self.per_hour, hour + HOUR),
            _Window(_window_attribute(credential.subject, minute), self.per_minute, minute + MINUTE),
        )
        exhausted = [each for each in windows if now < self._exhausted.get((item_key["pk"], each.attribute), now)]
        if exhausted:
            raise _rate_limited(exhausted, now)
        try:
            counts = self.table.update(_increment(item_key, windows, expires=hour + HOUR + RETENTION))
        except WriteRejected as error:
            counts = error.reasons["update"].item or {}
            raise self._reject(item_key["pk"], windows, counts, now) from None
        return min(
            (
                RateLimitStatus(each.limit, each.limit - counts[each.attribute], each.seconds_left(now))
                for each in windows
            ),
            key=lambda status: status.remaining,
        )

    def _reject(self, pk: str, windows: Sequence[_Window], counts: Mapping[str, int], now: datetime) -> RateLimited:
        """Store the exhausted windows and return the error."""
        exhausted = [each for each in windows if counts.get(each.attribute, 0) >= each.limit]
        if len(self._exhausted) > EXHAUSTED_MAX:
            self._exhausted.clear()
        self._exhausted |= {(pk, each.attribute): each.ends for each in exhausted}
        return _rate_limited(exhausted, now)


def _increment(item_key: Item, windows: Sequence[_Window], expires: datetime) -> Write:
    """Return the update that increments every window, on the condition that each is below its limit."""
    names = [each.attribute for each in windows]
    limits = {f":limit_{number}": each.limit for number, each in enumerate(windows)}
    return update(
        item_key,
        f"SET expires_at = :expires ADD {', '.join(f'{name} :one' for name in names)}",
        {":one": 1, ":expires": int(expires.timestamp())} | limits,
        " AND ".join(
            f"(attribute_not_exists({name}) OR {name} < {limit})" for name, limit in zip(names, limits, strict=True)
        ),
    )


def _limit_partition_key(credential: Credential, client_address: str) -> str:
    """Return the partition key of the item with the caller's limits."""
    account = f"RATE#{credential.account_id}"
    match credential.kind:
        case CredentialKind.SESSION_TOKEN:
            return account
        case CredentialKind.SECRET_KEY:
            return f"{account}#keys"
        case CredentialKind.PUBLISHABLE_KEY:
            return f"{account}#{credential.subject}#{_short_hash(_network(client_address))}"


def _network(address: str) -> str:
    """Return the /64 network of an IPv6 address, which one client has for itself; any other address unchanged."""
    try:
        packed = socket.inet_pton(socket.AF_INET6, address)
    except OSError:
        return address
    return packed[:8].hex()


def _rate_limited(windows: Sequence[_Window], now: datetime) -> RateLimited:
    """Return the error for the window that ends last."""
    longest = max(windows, key=lambda window: window.ends)
    return RateLimited(longest.limit, longest.seconds_left(now))


def _window_attribute(subject: str, minute: datetime) -> str:
    """Return the attribute of a user's or key's minute."""
    return f"m{minute:%M}_{_short_hash(subject)}"


def _short_hash(text: str) -> str:
    """Return ten hexadecimal digits (40 bits): they distinguish the callers of one account and keep the item small."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]
