"""Authentication of API requests by `Authorization: Bearer …` (RFC 6750), with an API key or a session token."""

import hashlib
import re
import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from billing.adapters.repository import KeyRecord, Repository
from billing.api.session_tokens import SessionTokens
from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import Unauthenticated

BEARER = re.compile(r"Bearer +(\S+)", re.IGNORECASE | re.ASCII)
KEY = re.compile(r"(sk|pk)_(test|live)_[A-Za-z0-9]{32}", re.ASCII)
KEY_CHARACTERS = string.ascii_letters + string.digits
CACHE_SECONDS_MAX = 60
CACHE_ENTRIES_MAX = 1000


class KeyKind(StrEnum):
    """Kind of an API key, as stored."""

    SECRET = "secret"  # noqa: S105 - its name
    PUBLISHABLE = "publishable"


KEY_FORMS: Mapping[str, tuple[str, CredentialKind]] = {
    KeyKind.SECRET: ("sk", CredentialKind.SECRET_KEY),
    KeyKind.PUBLISHABLE: ("pk", CredentialKind.PUBLISHABLE_KEY),
}
"""Prefix and kind of credential, by kind of key."""


@dataclass(slots=True)
class Authenticator:
    """Checker of credentials. A valid key is cached for 60 seconds, so a revoked key is accepted up to 60 seconds.

    Attributes:
        session_tokens: Checker of session tokens; None accepts no session token.
        livemode: Accept live keys instead of test keys.
    """

    repository: Repository
    session_tokens: SessionTokens | None = None
    livemode: bool = False
    _cache: dict[str, tuple[float, Credential]] = field(default_factory=dict)

    def authenticate(self, authorization: str | None, now: datetime) -> Credential:
        """Return the credential of an `Authorization` header.

        Raises:
            Unauthenticated: The credential is not valid. The message is the same for every reason.
            StoreUnavailable: The key cannot be checked.
            IdentityProviderUnavailable: The session token cannot be checked.
        """
        bearer = BEARER.fullmatch((authorization or "").strip())
        if bearer is None:
            raise Unauthenticated("no bearer credential")
        if key := KEY.fullmatch(bearer[1]):
            return self._check_key(key)
        if self.session_tokens is None:
            raise Unauthenticated("not a key, and session tokens are not configured")
        return self.session_tokens.check(bearer[1], now)

    def _check_key(self, key: re.Match[str]) -> Credential:
        if (key[2] == "live") != self.livemode:
            raise Unauthenticated("key of the other mode")
        digest = digest_of(key[0])
        expires, credential = self._cache.get(digest, (0.0, None))
        if credential and time.monotonic() < expires:
            return credential
        self._cache.pop(digest, None)
        credential = _credential(key[1], self.repository.find_key(digest))
        if len(self._cache) >= CACHE_ENTRIES_MAX:
            self._cache.clear()
        self._cache[digest] = (time.monotonic() + CACHE_SECONDS_MAX, credential)
        return credential


def _credential(prefix: str, record: KeyRecord | None) -> Credential:
    if record is None:
        raise Unauthenticated("unknown key")
    if record.revoked is not None:
        raise Unauthenticated(f"revoked key {record.id}")
    expected_prefix, kind = KEY_FORMS[record.kind]
    if prefix != expected_prefix:
        raise Unauthenticated(f"key {record.id} with the prefix of another kind")
    return Credential(kind, record.account_id, subject=f"key:{record.id}")


def new_key(kind: KeyKind, *, livemode: bool) -> str:
    """Return a new API key with 190 bits of randomness, in the format of Stripe's keys."""
    prefix, _ = KEY_FORMS[kind]
    return f"{prefix}_{'live' if livemode else 'test'}_" + "".join(secrets.choice(KEY_CHARACTERS) for _ in range(32))


def digest_of(key: str) -> str:
    """Return the stored digest of a key. SHA-256 without a salt is enough for a secret that cannot be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()
