"""Rate limits on the engine: exact under concurrency, one write per request, fixed windows."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from billing.adapters.dynamodb import Table
from billing.api.rate_limit import RateLimiter, RateLimitStatus
from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import RateLimited

pytestmark = pytest.mark.engine

NOW = datetime(2026, 11, 21, 10, 20, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def user(subject: str, account_id: str = "acme") -> Credential:
    """Return a user's credential."""
    return Credential(CredentialKind.SESSION_TOKEN, account_id, subject)


def is_accepted(limiter: RateLimiter, credential: Credential, now: datetime = NOW) -> bool:
    """Return True if one more request is accepted."""
    try:
        limiter.acquire(credential, now)
    except RateLimited:
        return False
    return True


@pytest.fixture
def written(table: Table) -> list[str]:
    """Names of the requests sent to DynamoDB."""
    sent: list[str] = []
    table.client.meta.events.register("before-send.dynamodb", lambda event_name, **_: sent.append(event_name))
    return sent


def test_parallel_requests_of_a_user_are_accepted_up_to_exactly_the_limit(table: Table) -> None:
    """300 requests through the limiters of three processes."""
    limiters = [RateLimiter(table, 100, 1000) for _ in range(3)]
    with ThreadPoolExecutor(32) as pool:
        passed = list(pool.map(lambda number: is_accepted(limiters[number % 3], user("u")), range(300)))
    assert sum(passed) == 100


def test_users_of_an_account_share_its_hourly_limit(table: Table) -> None:
    limiters = [RateLimiter(table, 50, 100) for _ in range(3)]
    with ThreadPoolExecutor(16) as pool:
        passed = list(pool.map(lambda number: is_accepted(limiters[0], user(f"u{number % 3}")), range(150)))
    assert sum(passed) == 100
    assert is_accepted(limiters[1], user("u0", account_id="globex"))


def test_publishable_key_has_an_hourly_limit_of_its_own(table: Table) -> None:
    """The key is public, so it must not block the account."""
    limiter = RateLimiter(table, 100, 3)
    public = Credential(CredentialKind.PUBLISHABLE_KEY, "acme", "key:key_1")
    assert [is_accepted(limiter, public) for _ in range(4)] == [True, True, True, False]
    assert [is_accepted(limiter, user("u")) for _ in range(4)] == [True, True, True, False]


def test_rejection_has_the_limit_and_seconds_of_the_window_that_ends_last(table: Table) -> None:
    limiter = RateLimiter(table, 1, 2)
    limiter.acquire(user("u"), NOW)
    with pytest.raises(RateLimited, match=r"^Rate limit exceeded\. Try again in 30 seconds$") as rejected:
        limiter.acquire(user("u"), NOW)
    assert (rejected.value.limit, rejected.value.retry_after_seconds) == (1, 30)
    limiter.acquire(user("u"), NOW + MINUTE)
    with pytest.raises(RateLimited) as rejected:
        limiter.acquire(user("u"), NOW + 2 * MINUTE)
    assert (rejected.value.limit, rejected.value.retry_after_seconds) == (2, 37 * 60 + 30)


def test_status_is_of_the_window_with_the_fewest_requests_left(table: Table) -> None:
    limiter = RateLimiter(table, 3, 4)
    statuses = [limiter.acquire(user("u"), NOW) for _ in range(2)]
    assert statuses == [RateLimitStatus(3, 2, 30), RateLimitStatus(3, 1, 30)]
    assert limiter.acquire(user("other"), NOW) == RateLimitStatus(4, 1, 39 * 60 + 30)


def test_new_minute_and_new_hour_have_the_full_limit(table: Table) -> None:
    limiter = RateLimiter(table, 2, 3)
    at = [NOW, NOW, NOW, NOW + MINUTE, NOW + MINUTE, NOW + timedelta(hours=1)]
    assert [is_accepted(limiter, user("u"), now) for now in at] == [True, True, False, True, False, True]


def test_rejected_request_is_counted_in_neither_window(table: Table) -> None:
    limiter = RateLimiter(table, 1, 2)
    assert [is_accepted(RateLimiter(table, 1, 2), user("loud")) for _ in range(5)] == [True, *[False] * 4]
    assert is_accepted(limiter, user("quiet"))


def test_request_costs_one_write_and_none_once_the_window_is_exhausted(table: Table, written: list[str]) -> None:
    limiter = RateLimiter(table, 2, 10)
    passed = [is_accepted(limiter, user("u")) for _ in range(5)]
    assert passed == [True, True, False, False, False]
    assert written == ["before-send.dynamodb.UpdateItem"] * 3


def test_counters_expire_one_hour_after_their_hour(table: Table) -> None:
    RateLimiter(table, 2, 10).acquire(user("u"), NOW)
    [row] = table.query("RATE#acme", " ", "~")
    assert datetime.fromtimestamp(row["expires_at"], UTC) == datetime(2026, 11, 21, 12, tzinfo=UTC)
