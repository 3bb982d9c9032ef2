"""Credentials: only a key that the table knows counts, and one that was revoked stops counting within 60 seconds."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import auth
from billing.auth import CACHE_ENTRIES_MAX, Authenticator, digest_of, new_secret_key
from billing.domain.errors import Unauthenticated
from billing.store import KeyRecord, Store

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KEY = "sk_test_" + "a" * 32


@dataclass
class Keys:
    """The store as authentication sees it, with every digest that it was asked for."""

    records: dict[str, KeyRecord] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, key: str, account_id: str = "acme") -> None:
        self.records[digest_of(key)] = KeyRecord("key_1", account_id, "secret", NOW, key[-4:])

    def revoke(self, key: str) -> None:
        self.records[digest_of(key)] = replace(self.records[digest_of(key)], revoked=NOW)

    def find_key(self, digest: str) -> KeyRecord | None:
        self.asked.append(digest)
        return self.records.get(digest)


@pytest.fixture
def keys() -> Keys:
    """A table with acme's key."""
    keys = Keys()
    keys.add(KEY)
    return keys


@pytest.fixture
def authenticator(keys: Keys) -> Authenticator:
    """A process that has seen no credential yet."""
    return Authenticator(cast(Store, keys))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, to be moved by hand; it starts at 0, as on a machine just booted."""
    clock = [0.0]
    monkeypatch.setattr("billing.auth.time.monotonic", lambda: clock[0])
    return clock


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_known_key_acts_for_its_account(authenticator: Authenticator, scheme: str) -> None:
    """A key names its account; the scheme's case does not matter (RFC 9110)."""
    assert authenticator.account_id(f"{scheme} {KEY}") == "acme"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Basic {KEY}",
        f"Bearer{KEY}",
        f"Bearer {KEY} {KEY}",
        f"Bearer {KEY},Bearer {KEY}",
        f"Bearer {KEY}a",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY[:-1]}é",
        f"Bearer {KEY[:-1]}\u0661",
        f"Bearer {KEY[:-1]}-",
        f"Bearer {KEY.replace('sk', 'pk')}",
        f"Bearer {KEY.replace('test', 'prod')}",
        f"Bearer {KEY.upper()}",
        f"Bearer {KEY}\n{KEY}",
        "Bearer " + "a" * 100_000,
    ],
)
def test_a_malformed_credential_never_reaches_the_store(
    authenticator: Authenticator, keys: Keys, header: str | None
) -> None:
    """What cannot be a key is refused before anything is looked up."""
    with pytest.raises(Unauthenticated):
        authenticator.account_id(header)
    assert keys.asked == []


@given(header=st.text(st.characters(codec=None)))
def test_no_text_does_more_than_be_refused(header: str) -> None:
    """Whatever a header holds, Unauthenticated is all that is raised."""
    with pytest.raises(Unauthenticated):
        Authenticator(cast(Store, Keys())).account_id(f"Bearer {header}")


def test_the_key_itself_is_never_looked_up(authenticator: Authenticator, keys: Keys) -> None:
    """Only the digest leaves the process."""
    authenticator.account_id(f"Bearer {KEY}")
    assert keys.asked == [digest_of(KEY)]


def test_a_known_key_is_remembered_for_less_than_a_minute(
    authenticator: Authenticator, keys: Keys, clock: list[float]
) -> None:
    """Within 60 seconds of a look-up the store is not asked again; afterwards it is."""
    for seconds in (0.0, 30.0, 59.9):
        clock[0] = seconds
        authenticator.account_id(f"Bearer {KEY}")
    assert len(keys.asked) == 1
    clock[0] = 60.0
    authenticator.account_id(f"Bearer {KEY}")
    assert len(keys.asked) == 2


def test_a_revoked_key_stops_within_a_minute_however_busy(
    authenticator: Authenticator, keys: Keys, clock: list[float]
) -> None:
    """Using a key does not prolong what is remembered of it."""
    authenticator.account_id(f"Bearer {KEY}")
    keys.revoke(KEY)
    for second in range(60):
        clock[0] = float(second)
        authenticator.account_id(f"Bearer {KEY}")
    clock[0] = 60.0
    with pytest.raises(Unauthenticated):
        authenticator.account_id(f"Bearer {KEY}")


def test_an_unknown_key_is_looked_up_each_time(authenticator: Authenticator, keys: Keys) -> None:
    """A key counts the moment it is created, also after it was tried in vain."""
    later = new_secret_key(livemode=True)
    with pytest.raises(Unauthenticated):
        authenticator.account_id(f"Bearer {later}")
    keys.add(later, "globex")
    assert authenticator.account_id(f"Bearer {later}") == "globex"


def test_a_revoked_key_is_refused_like_an_unknown_one(authenticator: Authenticator, keys: Keys) -> None:
    """Nothing tells a revoked key from one that never was."""
    keys.revoke(KEY)
    answers = []
    for key in (KEY, new_secret_key(livemode=False)):
        with pytest.raises(Unauthenticated) as refused:
            authenticator.account_id(f"Bearer {key}")
        answers.append(str(refused.value))
    assert answers[0] == answers[1]


def test_what_is_remembered_is_bounded(authenticator: Authenticator, keys: Keys) -> None:
    """A process that sees ever more keys does not grow with them."""
    for _ in range(CACHE_ENTRIES_MAX + 10):
        key = new_secret_key(livemode=False)
        keys.add(key)
        authenticator.account_id(f"Bearer {key}")
    assert len(authenticator._known) <= CACHE_ENTRIES_MAX


def test_new_keys_are_accepted_as_keys() -> None:
    """Every key that is made has the form that is accepted, is unlike all others and says its mode."""
    made = [new_secret_key(livemode=live) for live in (True, False) for _ in range(100)]
    assert all(auth.SECRET_KEY.fullmatch(key) for key in made)
    assert len(set(made)) == len(made)
    assert [key[:8] for key in made] == ["sk_live_"] * 100 + ["sk_test_"] * 100
