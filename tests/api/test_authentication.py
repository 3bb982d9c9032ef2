"""Credentials: only a key that the table knows counts, and one that was revoked stops counting within 60 seconds."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.adapters.repository import KeyRecord, Repository
from billing.api import authentication
from billing.api.authentication import CACHE_ENTRIES_MAX, Authenticator, KeyKind, digest_of, new_key
from billing.domain.credentials import CredentialKind
from billing.domain.errors import Unauthenticated

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KEY = "sk_test_" + "a" * 32
PUBLISHABLE_KEY = "pk_test_" + "b" * 32


@dataclass
class Keys:
    """The store as authentication sees it, with every digest that it was asked for."""

    records: dict[str, KeyRecord] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, key: str, account_id: str = "acme", kind: str = "secret") -> None:
        self.records[digest_of(key)] = KeyRecord(f"key_{len(self.records)}", account_id, kind, NOW, key[-4:])

    def revoke(self, key: str) -> None:
        self.records[digest_of(key)] = replace(self.records[digest_of(key)], revoked=NOW)

    def find_key(self, digest: str) -> KeyRecord | None:
        self.asked.append(digest)
        return self.records.get(digest)


@pytest.fixture
def keys() -> Keys:
    """A table with acme's keys, one of each kind."""
    keys = Keys()
    keys.add(KEY)
    keys.add(PUBLISHABLE_KEY, kind="publishable")
    return keys


@pytest.fixture
def authenticator(keys: Keys) -> Authenticator:
    """A process that has seen no credential yet."""
    return Authenticator(cast(Repository, keys))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, to be moved by hand; it starts at 0, as on a machine just booted."""
    clock = [0.0]
    monkeypatch.setattr("billing.api.authentication.time.monotonic", lambda: clock[0])
    return clock


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_known_key_acts_for_its_account(authenticator: Authenticator, scheme: str) -> None:
    """A key names its account; the scheme's case does not matter (RFC 9110)."""
    assert authenticator.authenticate(f"{scheme} {KEY}", NOW).account_id == "acme"


@pytest.mark.parametrize(
    ("key", "kind"), [(KEY, CredentialKind.SECRET_KEY), (PUBLISHABLE_KEY, CredentialKind.PUBLISHABLE_KEY)]
)
def test_a_keys_kind_is_known(authenticator: Authenticator, keys: Keys, key: str, kind: CredentialKind) -> None:
    """What a key may do follows from its kind, also when it is remembered; each key counts requests of its own."""
    credentials = [authenticator.authenticate(f"Bearer {key}", NOW) for _ in range(2)]
    assert {(each.kind, each.account_id, each.can_manage_billing) for each in credentials} == {(kind, "acme", True)}
    assert len(keys.asked) == 1
    other = authenticator.authenticate(f"Bearer {PUBLISHABLE_KEY if key == KEY else KEY}", NOW)
    assert {each.subject for each in credentials} != {other.subject}
    assert key not in credentials[0].subject


@pytest.mark.parametrize(("key", "kind"), [(KEY, "publishable"), (PUBLISHABLE_KEY, "secret")])
def test_a_key_is_of_the_kind_it_was_made_as(keys: Keys, authenticator: Authenticator, key: str, kind: str) -> None:
    """What a key looks like does not raise what it may do: the stored kind must be the same."""
    keys.add(key, kind=kind)
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(f"Bearer {key}", NOW)


def test_a_live_deployment_takes_live_keys(keys: Keys) -> None:
    """And no others, also if they are in its table."""
    live = new_key(KeyKind.SECRET, livemode=True)
    keys.add(live)
    authenticator = Authenticator(cast(Repository, keys), livemode=True)
    assert authenticator.authenticate(f"Bearer {live}", NOW).account_id == "acme"
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(f"Bearer {KEY}", NOW)


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
        f"Bearer {KEY.replace('sk', 'rk')}",
        f"Bearer {KEY.replace('test', 'prod')}",
        f"Bearer {KEY.replace('test', 'live')}",
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
        authenticator.authenticate(header, NOW)
    assert keys.asked == []


@given(header=st.text(st.characters(codec=None)))
def test_no_text_does_more_than_be_refused(header: str) -> None:
    """Whatever a header holds, Unauthenticated is all that is raised."""
    with pytest.raises(Unauthenticated):
        Authenticator(cast(Repository, Keys())).authenticate(f"Bearer {header}", NOW)


def test_the_key_itself_is_never_looked_up(authenticator: Authenticator, keys: Keys) -> None:
    """Only the digest leaves the process."""
    authenticator.authenticate(f"Bearer {KEY}", NOW)
    assert keys.asked == [digest_of(KEY)]


def test_a_known_key_is_remembered_for_less_than_a_minute(
    authenticator: Authenticator, keys: Keys, clock: list[float]
) -> None:
    """Within 60 seconds of a look-up the store is not asked again; afterwards it is."""
    for seconds in (0.0, 30.0, 59.9):
        clock[0] = seconds
        authenticator.authenticate(f"Bearer {KEY}", NOW)
    assert len(keys.asked) == 1
    clock[0] = 60.0
    authenticator.authenticate(f"Bearer {KEY}", NOW)
    assert len(keys.asked) == 2


def test_a_revoked_key_stops_within_a_minute_however_busy(
    authenticator: Authenticator, keys: Keys, clock: list[float]
) -> None:
    """Using a key does not prolong what is remembered of it."""
    authenticator.authenticate(f"Bearer {KEY}", NOW)
    keys.revoke(KEY)
    for second in range(60):
        clock[0] = float(second)
        authenticator.authenticate(f"Bearer {KEY}", NOW)
    clock[0] = 60.0
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(f"Bearer {KEY}", NOW)


def test_an_unknown_key_is_looked_up_each_time(authenticator: Authenticator, keys: Keys) -> None:
    """A key counts the moment it is created, also after it was tried in vain."""
    later = new_key(KeyKind.SECRET, livemode=False)
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(f"Bearer {later}", NOW)
    keys.add(later, "globex")
    assert authenticator.authenticate(f"Bearer {later}", NOW).account_id == "globex"


def test_a_revoked_key_is_refused_like_an_unknown_one(authenticator: Authenticator, keys: Keys) -> None:
    """Nothing tells a revoked key from one that never was."""
    keys.revoke(KEY)
    answers = []
    for key in (KEY, new_key(KeyKind.SECRET, livemode=False)):
        with pytest.raises(Unauthenticated) as refused:
            authenticator.authenticate(f"Bearer {key}", NOW)
        answers.append(str(refused.value))
    assert answers[0] == answers[1]


def test_what_is_remembered_is_bounded(authenticator: Authenticator, keys: Keys) -> None:
    """A process that sees ever more keys does not grow with them."""
    for _ in range(CACHE_ENTRIES_MAX + 10):
        key = new_key(KeyKind.SECRET, livemode=False)
        keys.add(key)
        authenticator.authenticate(f"Bearer {key}", NOW)
    assert len(authenticator._known) <= CACHE_ENTRIES_MAX


@pytest.mark.parametrize(("kind", "prefix"), [(KeyKind.SECRET, "sk"), (KeyKind.PUBLISHABLE, "pk")])
def test_new_keys_are_accepted_as_keys(kind: KeyKind, prefix: str) -> None:
    """Every key that is made has the form that is accepted, is unlike all others and says its kind and mode."""
    made = [new_key(kind, livemode=live) for live in (True, False) for _ in range(100)]
    assert all(authentication.KEY.fullmatch(key) for key in made)
    assert len(set(made)) == len(made)
    assert [key[:8] for key in made] == [f"{prefix}_live_"] * 100 + [f"{prefix}_test_"] * 100
