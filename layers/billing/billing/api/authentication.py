"""Who is asking: from an `Authorization` header (RFC 6750) to an account. Fails closed."""

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
    """What a key was made as."""

    SECRET = "secret"  # noqa: S105 - its name
    PUBLISHABLE = "publishable"


# What a key of each kind begins with, and what it is as a credential.
KEY_FORMS: Mapping[str, tuple[str, CredentialKind]] = {
    KeyKind.SECRET: ("sk", CredentialKind.SECRET_KEY),
    KeyKind.PUBLISHABLE: ("pk", CredentialKind.PUBLISHABLE_KEY),
}


@dataclass(slots=True)
class Authenticator:
    """Checks credentials. A key that counts is remembered for 60 s, and works as long after its revocation.

    Without `session_tokens` no session token counts.
    """

    repository: Repository
    session_tokens: SessionTokens | None = None
    livemode: bool = False
    _known: dict[str, tuple[float, Credential]] = field(default_factory=dict)

    def authenticate(self, authorization: str | None, now: datetime) -> Credential:
        """The credential of an `Authorization` header.

        Raises Unauthenticated, with nothing to learn from it; StoreUnavailable and IdentityProviderUnavailable where
        it could not be checked.
        """
        bearer = BEARER.fullmatch((authorization or "").strip())
        if bearer is None:
            raise Unauthenticated("no bearer credential")
        if key := KEY.fullmatch(bearer[1]):
            return self._check_key(key)
        if self.session_tokens is None:
            raise Unauthenticated("neither a key nor, without SessionIssuer, a session token")
        return self.session_tokens.check(bearer[1], now)

    def _check_key(self, key: re.Match[str]) -> Credential:
        if (key[2] == "live") != self.livemode:
            raise Unauthenticated("a key of the other mode")
        digest = digest_of(key[0])
        expires, credential = self._known.get(digest, (0.0, None))
        if credential and time.monotonic() < expires:
            return credential
        self._known.pop(digest, None)
        credential = _credential(key[1], self.repository.find_key(digest))
        if len(self._known) >= CACHE_ENTRIES_MAX:
            self._known.clear()
        self._known[digest] = (time.monotonic() + CACHE_SECONDS_MAX, credential)
        return credential


def _credential(prefix: str, record: KeyRecord | None) -> Credential:
    if record is None:
        raise Unauthenticated("an unknown key")
    if record.revoked is not None:
        raise Unauthenticated(f"{record.id}, which is revoked")
    expected_prefix, kind = KEY_FORMS[record.kind]
    if prefix != expected_prefix:
        raise Unauthenticated(f"{record.id}, as another kind of key")
    return Credential(kind, record.account_id, subject=f"key:{record.id}")


def new_key(kind: KeyKind, *, livemode: bool) -> str:
    """A key with 190 bits of randomness, in the form of Stripe's own."""
    prefix, _ = KEY_FORMS[kind]
    return f"{prefix}_{'live' if livemode else 'test'}_" + "".join(secrets.choice(KEY_CHARACTERS) for _ in range(32))


def digest_of(key: str) -> str:
    """What is stored of a key. A plain SHA-256 is enough for a secret that cannot be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()
