"""Authentication with API keys: stored keys are accepted, and revoked keys rejected within 60 seconds."""

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
    """Repository of keys; `looked_up` has every requested digest."""

    records: dict[str, KeyRecord] = field(default_factory=dict)
    looked_up: list[str] = field(default_factory=list)

    def add(self, key: str, account_id: str = "acme", kind: str = "secret") -> None:
        self.records[digest_of(key)] = KeyRecord(f"key_{len(self.records)}", account_id, kind, NOW, key[-4:])

    def revoke(self, key: str) -> None:
        self.records[digest_of(key)] = replace(self.records[digest_of(key)], revoked=NOW)

    def find_key(self, digest: str) -> KeyRecord | None:
        self.looked_up.append(digest)
        return self.records.get(digest)


@pytest.fixture
def keys() -> Keys:
    """Repository with two keys of acme, one of each kind."""
    keys = Keys()
    keys.add(KEY)
    keys.add(PUBLISHABLE_KEY, kind="publishable")
    return keys


@pytest.fixture
def authenticator(keys: Keys) -> Authenticator:
    """Authenticator with an empty cache."""
    return Authenticator(cast(Repository, keys))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock in seconds, starting at 0."""
    clock = [0.0]
    monkeypatch.setattr("billing.api.authentication.time.monotonic", lambda: clock[0])
    return clock


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_key_authenticates_its_account_with_any_case_of_the_scheme(authenticator: Authenticator, scheme: str) -> None:
    """The scheme is case-insensitive (RFC 9110, section 11.1)."""
    assert authenticator.authenticate(f"{scheme} {KEY}", NOW).account_id == "acme"


@pytest.mark.parametrize(
    ("key", "kind"), [(KEY, CredentialKind.SECRET_KEY), (PUBLISHABLE_KEY, CredentialKind.PUBLISHABLE_KEY)]
)
def test_credential_has_the_kind_of_the_key_and_a_subject_of_its_own(
    authenticator: Authenticator, keys: Keys, key: str, kind: CredentialKind
) -> None:
    """Also from the cache. Rate limits count by subject, which must not contain the key."""
    credentials = [authenticator.authenticate(f"Bearer {key}", NOW) for _ in range(2)]
    assert {(each.kind, each.account_id, each.can_manage_billing) for each in credentials} == {(kind, "acme", True)}
    assert len(keys.looked_up) == 1
    other = authenticator.authenticate(f"Bearer {PUBLISHABLE_KEY if key == KEY else KEY}", NOW)
    assert {each.subject for each in credentials} != {other.subject}
    assert key not in credentials[0].subject


@pytest.mark.parametrize(("key", "kind"), [(KEY, "publishable"), (PUBLISHABLE_KEY, "secret")])
def test_key_whose_prefix_is_of_another_kind_than_stored_is_rejected(
    keys: Keys, authenticator: Authenticator, key: str, kind: str
) -> None:
    keys.add(key, kind=kind)
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(f"Bearer {key}", NOW)


def test_live_deployment_accepts_live_keys_and_rejects_stored_test_keys(keys: Keys) -> None:
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
def test_malformed_credential_is_rejected_without_a_read(
    authenticator: Authenticator, keys: Keys, header: str | None
) -> None:
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(header, NOW)
    assert keys.looked_up == []


@given(header=st.text(st.characters(codec=None)))
def test_any_text_is_rejected_with_unauthenticated(header: str) -> None:
    with pytest.raises(Unauthenticated):
        Authenticator(cast(Repository, Keys())).authenticate(f"Bearer {header}", NOW)


def test_key_is_looked_up_by_its_digest(authenticator: Authenticator, keys: Keys) -> None:
    authenticator.authenticate(f"Bearer {KEY}", NOW)
    assert keys.looked_up == [digest_of(KEY)]


def test_valid_key_is_cached_for_60_seconds(authenticator: Authenticator, keys: Keys, clock: list[float]) -> None:
    for seconds in (0.0, 30.0, 59.9):
        clock[0] = seconds
        authenticator.authenticate(f"Bearer {KEY}", NOW)
    assert len(keys.looked_up) == 1
    clock[0] = 60.0
    authenticator.authenticate(f"Bearer {KEY}", NOW)
    assert len(keys.looked_up) == 2


def test_revoked_key_is_rejected_after_60_seconds_of_constant_use(
    authenticator: Authenticator, keys: Keys, clock: list[float]
) -> None:
    """Using a key does not extend its cache entry."""
    authenticator.authenticate(f"Bearer {KEY}", NOW)
    keys.revoke(KEY)
    for second in range(60):
        clock[0] = float(second)
        authenticator.authenticate(f"Bearer {KEY}", NOW)
    clock[0] = 60.0
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(f"Bearer {KEY}", NOW)


def test_new_key_is_accepted_at_once_after_a_rejected_attempt(authenticator: Authenticator, keys: Keys) -> None:
    later = new_key(KeyKind.SECRET, livemode=False)
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(f"Bearer {later}", NOW)
    keys.add(later, "globex")
    assert authenticator.authenticate(f"Bearer {later}", NOW).account_id == "globex"


def test_revoked_and_unknown_keys_have_the_same_message(authenticator: Authenticator, keys: Keys) -> None:
    keys.revoke(KEY)
    messages = []
    for key in (KEY, new_key(KeyKind.SECRET, livemode=False)):
        with pytest.raises(Unauthenticated) as rejected:
            authenticator.authenticate(f"Bearer {key}", NOW)
        messages.append(str(rejected.value))
    assert messages[0] == messages[1]


def test_cache_size_is_bounded(authenticator: Authenticator, keys: Keys) -> None:
    for _ in range(CACHE_ENTRIES_MAX + 10):
        key = new_key(KeyKind.SECRET, livemode=False)
        keys.add(key)
        authenticator.authenticate(f"Bearer {key}", NOW)
    assert len(authenticator._cache) <= CACHE_ENTRIES_MAX


@pytest.mark.parametrize(("kind", "prefix"), [(KeyKind.SECRET, "sk"), (KeyKind.PUBLISHABLE, "pk")])
def test_new_keys_are_unique_and_have_the_accepted_format(kind: KeyKind, prefix: str) -> None:
    made = [new_key(kind, livemode=live) for live in (True, False) for _ in range(100)]
    assert all(authentication.KEY.fullmatch(key) for key in made)
    assert len(set(made)) == len(made)
    assert [key[:8] for key in made] == [f"{prefix}_live_"] * 100 + [f"{prefix}_test_"] * 100
