"""Counting requests on the engine: exact under concurrency, one write each, fixed windows."""

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


def credential(subject: str, account_id: str = "acme") -> Credential:
    """Somebody who asks."""
    return Credential(CredentialKind.SESSION_TOKEN, account_id, subject)


def passes(limiter: RateLimiter, who: Credential, now: datetime = NOW) -> bool:
    """Whether one more request is let through."""
    try:
        limiter.acquire(who, now)
    except RateLimited:
        return False
    return True


@pytest.fixture
def written(table: Table) -> list[str]:
    """The requests to DynamoDB, as they go out."""
    sent: list[str] = []
    table.client.meta.events.register("before-send.dynamodb", lambda event_name, **_: sent.append(event_name))
    return sent


def test_exactly_the_limit_passes_in_parallel(table: Table) -> None:
    """300 requests at once through three processes' limiters: 100 of one user pass, and none is counted twice."""
    limiters = [RateLimiter(table, 100, 1000) for _ in range(3)]
    with ThreadPoolExecutor(32) as pool:
        passed = list(pool.map(lambda number: passes(limiters[number % 3], credential("u")), range(300)))
    assert sum(passed) == 100


def test_all_of_an_account_share_its_hour(table: Table) -> None:
    """Three users of one account, each within the minute's limit, pass together as often as the hour allows."""
    limiters = [RateLimiter(table, 50, 100) for _ in range(3)]
    with ThreadPoolExecutor(16) as pool:
        passed = list(pool.map(lambda number: passes(limiters[0], credential(f"u{number % 3}")), range(150)))
    assert sum(passed) == 100
    assert passes(limiters[1], credential("u0", account_id="globex"))


def test_a_publishable_key_takes_from_an_hour_of_its_own(table: Table) -> None:
    """What anybody can copy from a page keeps nobody from paying."""
    limiter = RateLimiter(table, 100, 3)
    public = Credential(CredentialKind.PUBLISHABLE_KEY, "acme", "key:key_1")
    assert [passes(limiter, public) for _ in range(4)] == [True, True, True, False]
    assert [passes(limiter, credential("u")) for _ in range(4)] == [True, True, True, False]


def test_a_refusal_says_when_to_come_back(table: Table) -> None:
    """At the end of the minute; or of the hour, once that is exhausted."""
    limiter = RateLimiter(table, 1, 2)
    limiter.acquire(credential("u"), NOW)
    with pytest.raises(RateLimited, match=r"^Rate limit exceeded\. Try again in 30 seconds$") as refused:
        limiter.acquire(credential("u"), NOW)
    assert (refused.value.limit, refused.value.retry_after_seconds) == (1, 30)
    limiter.acquire(credential("u"), NOW + MINUTE)
    with pytest.raises(RateLimited) as refused:
        limiter.acquire(credential("u"), NOW + 2 * MINUTE)
    assert (refused.value.limit, refused.value.retry_after_seconds) == (2, 37 * 60 + 30)


def test_what_is_left_is_told(table: Table) -> None:
    """Of the window that has least left."""
    limiter = RateLimiter(table, 3, 4)
    told = [limiter.acquire(credential("u"), NOW) for _ in range(2)]
    assert told == [RateLimitStatus(3, 2, 30), RateLimitStatus(3, 1, 30)]
    assert limiter.acquire(credential("other"), NOW) == RateLimitStatus(4, 1, 39 * 60 + 30)


def test_a_new_window_is_whole(table: Table) -> None:
    """The next minute has the full limit again, and the next hour too."""
    limiter = RateLimiter(table, 2, 3)
    at = [NOW, NOW, NOW, NOW + MINUTE, NOW + MINUTE, NOW + timedelta(hours=1)]
    assert [passes(limiter, credential("u"), now) for now in at] == [True, True, False, True, False, True]


def test_a_refused_request_takes_from_no_window(table: Table) -> None:
    """One user who is refused for the minute does not use up the hour of everybody."""
    limiter = RateLimiter(table, 1, 2)
    assert [passes(RateLimiter(table, 1, 2), credential("loud")) for _ in range(5)] == [True, *[False] * 4]
    assert passes(limiter, credential("quiet"))


def test_counting_costs_one_write(table: Table, written: list[str]) -> None:
    """One a request; none once the window is known to be exhausted."""
    limiter = RateLimiter(table, 2, 10)
    passed = [passes(limiter, credential("u")) for _ in range(5)]
    assert passed == [True, True, False, False, False]
    assert written == ["before-send.dynamodb.UpdateItem"] * 3


def test_counters_expire(table: Table) -> None:
    """Nobody has to clean up: a row goes some time after its hour."""
    RateLimiter(table, 2, 10).acquire(credential("u"), NOW)
    [row] = table.query("RATE#acme", " ", "~")
    assert datetime.fromtimestamp(row["expires_at"], UTC) == datetime(2026, 11, 21, 12, tzinfo=UTC)
