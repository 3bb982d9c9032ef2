"""Who is asking: from an `Authorization` header (RFC 6750) to an account. Fails closed."""

import hashlib
import re
import secrets
import string
import time
from dataclasses import dataclass, field

from billing.domain.errors import Unauthenticated
from billing.store import Store

SECRET_KEY = re.compile(r"sk_(?:test|live)_[A-Za-z0-9]{32}", re.ASCII)
BEARER = re.compile(r"Bearer +(\S+)", re.IGNORECASE | re.ASCII)
CACHE_SECONDS_MAX = 60
CACHE_ENTRIES_MAX = 1000
KEY_CHARACTERS = string.ascii_letters + string.digits


@dataclass(slots=True)
class Authenticator:
    """Looks credentials up in the store; one that counts is remembered for 60 s, and works as long after revocation."""

    store: Store
    _known: dict[str, tuple[float, str]] = field(default_factory=dict)

    def account_id(self, authorization: str | None) -> str:
        """The account a credential acts for. Raises Unauthenticated, with nothing to learn from it."""
        bearer = BEARER.fullmatch((authorization or "").strip())
        if bearer is None or not SECRET_KEY.fullmatch(bearer[1]):
            raise Unauthenticated
        digest = digest_of(bearer[1])
        expires, account_id = self._known.get(digest, (0.0, ""))
        if time.monotonic() < expires:
            return account_id
        key = self.store.find_key(digest)
        if key is None or key.revoked is not None:
            self._known.pop(digest, None)
            raise Unauthenticated
        if len(self._known) >= CACHE_ENTRIES_MAX:
            self._known.clear()
        self._known[digest] = (time.monotonic() + CACHE_SECONDS_MAX, key.account_id)
        return key.account_id


def new_secret_key(*, livemode: bool) -> str:
    """A key with 190 bits of randomness, in the form of Stripe's own."""
    return f"sk_{'live' if livemode else 'test'}_" + "".join(secrets.choice(KEY_CHARACTERS) for _ in range(32))


def digest_of(key: str) -> str:
    """What is stored of a key. A plain SHA-256 is enough for a secret that cannot be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()
