"""Rate limits on the engine: exact under concurrency, one write per request, fixed windows."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from billing.adapters.dynamodb import Table, put
from billing.api.rate_limit import RateLimiter, RateLimitStatus
from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import RateLimited
from billing.settings import RATE_LIMIT_MAX

pytestmark = pytest.mark.engine

NOW = datetime(2026, 11, 21, 10, 20, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def user(subject: str, account_id: str = "acme") -> Credential:
    """Return a user's credential."""
    return Credential(CredentialKind.SESSION_TOKEN, account_id, subject)


def secret_key(key_id: str, account_id: str = "acme") -> Credential:
    """Return the credential of a secret key."""
    return Credential(CredentialKind.SECRET_KEY, account_id, f"key:{key_id}")


def publishable_key(key_id: str, account_id: str = "acme") -> Credential:
    """Return the credential of a publishable key."""
    return Credential(CredentialKind.PUBLISHABLE_KEY, account_id, f"key:{key_id}")


def is_accepted(limiter: RateLimiter, credential: Credential, now: datetime = NOW, address: str = "192.0.2.1") -> bool:
    """Return True if one more request is accepted."""
    try:
        limiter.acquire(credential, now, address)
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


def test_users_cannot_use_up_the_hour_of_the_accounts_servers(table: Table) -> None:
    """All secret keys of an account share one hour, and all its users another."""
    limiter = RateLimiter(table, 100, 3)
    assert [is_accepted(limiter, user(f"u{number}")) for number in range(4)] == [True, True, True, False]
    keys = [secret_key("key_1"), secret_key("key_2"), secret_key("key_1"), secret_key("key_2")]
    assert [is_accepted(limiter, key) for key in keys] == [True, True, True, False]
    assert is_accepted(limiter, secret_key("key_1", account_id="globex"))


def test_servers_cannot_use_up_the_hour_of_the_accounts_users(table: Table) -> None:
    limiter = RateLimiter(table, 100, 2)
    assert [is_accepted(limiter, secret_key("key_1")) for _ in range(3)] == [True, True, False]
    assert [is_accepted(limiter, user("u")) for _ in range(3)] == [True, True, False]


def test_each_secret_key_has_its_own_minute(table: Table) -> None:
    limiter = RateLimiter(table, 1, 10)
    assert [is_accepted(limiter, secret_key(key)) for key in ("key_1", "key_2", "key_1")] == [True, True, False]


def test_publishable_key_has_limits_of_its_own(table: Table) -> None:
    """The key is public, so it must not block the account."""
    limiter = RateLimiter(table, 100, 3)
    assert [is_accepted(limiter, publishable_key("key_1")) for _ in range(4)] == [True, True, True, False]
    assert is_accepted(limiter, publishable_key("key_2"))
    assert [is_accepted(limiter, user("u")) for _ in range(4)] == [True, True, True, False]
    assert is_accepted(limiter, secret_key("key_3"))


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("", "", True),
    ],
)
def test_clients_of_a_publishable_key_have_limits_for_each_network(
    table: Table, first: str, second: str, *, is_shared: bool
) -> None:
    """One visitor of a price page cannot lock out the others. An IPv6 client has a whole /64 network."""
    for limiter in (RateLimiter(table, 1, 10), RateLimiter(table, 10, 1)):
        now = NOW + timedelta(hours=limiter.per_hour)
        assert is_accepted(limiter, publishable_key("key_1"), now, first)
        assert is_accepted(limiter, publishable_key("key_1"), now, second) is not is_shared


@pytest.mark.parametrize("credential", [user("u"), secret_key("key_1")])
def test_clients_of_users_and_secret_keys_share_their_limits(table: Table, credential: Credential) -> None:
    limiter = RateLimiter(table, 1, 10)
    assert is_accepted(limiter, credential, address="192.0.2.1")
    assert not is_accepted(limiter, credential, address="192.0.2.2")


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


# --- Size of the item -------------------------------------------------------------------------------------------------

ITEM_BYTES_MAX = 400 * 1024
"""https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html#limits-items"""


def item_bytes(item: dict[str, object]) -> int:
    """Return the size of an item with strings and integers, as DynamoDB calculates it.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(
        len(name) + (len(value.encode()) if isinstance(value, str) else 2 + len(str(value).lstrip("-")) // 2)
        for name, value in item.items()
    )


def test_item_with_the_largest_limit_is_smaller_than_400_kb(table: Table) -> None:
    """In the worst case every request of the hour is from another user or in another minute."""
    account_id = "a" * 255
    limiter = RateLimiter(table, RATE_LIMIT_MAX, RATE_LIMIT_MAX)
    limiter.acquire(user("first", account_id), NOW)
    [item] = table.query(f"RATE#{account_id}", " ", "~")
    others = {f"m{number % 60:02}_{number:010x}": 1 for number in range(RATE_LIMIT_MAX - 2)}
    table.transact({"fill": put(item | others | {"hour_requests": RATE_LIMIT_MAX - 1})})
    assert is_accepted(limiter, user("last", account_id))
    assert not is_accepted(limiter, user("beyond", account_id))
    [item] = table.query(f"RATE#{account_id}", " ", "~")
    assert len(item) == RATE_LIMIT_MAX + len({"pk", "sk", "expires_at", "hour_requests"})
    assert item_bytes(item) < 0.9 * ITEM_BYTES_MAX
