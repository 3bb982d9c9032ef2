"""The identity provider's public keys (RFC 7517), and whether one of them signed something.

PyJWT imports cryptography, so both wait until there is a signature to check by a key that is known.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from billing.domain.errors import ConfigurationMissing, IdentityProviderUnavailable
from billing.telemetry import logger

AGE_SECONDS_MAX = 600
"""After which the keys are asked for again: a key that the provider withdraws counts no longer than that."""

OUTAGE_SECONDS_MAX = 24 * 3600
"""For which the last known keys count while the provider does not answer."""

PAUSE_SECONDS = 30
"""Between two requests, however many unknown keys are named meanwhile."""

FIRST_PAUSE_SECONDS = 5
"""The same as long as the provider has never answered: no session token can be checked before it does."""

ANSWER_SECONDS_MAX = 2
BYTES_MAX = 256 * 1024
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HTTP_OK = 200

# What a key must be for an algorithm: RFC 7518, 3.1 and 6.1.
KEY_TYPES: Mapping[str, Mapping[str, str]] = {
    "RS256": {"kty": "RSA"},
    "ES256": {"kty": "EC", "crv": "P-256"},
}
PUBLIC_MEMBERS = ("kty", "n", "e", "crv", "x", "y")

type Jwk = Mapping[str, Any]


@dataclass(slots=True)
class Jwks:
    """A JWK Set at an address: fetched on first use, again when it is ten minutes old or a key is missing in it."""

    url: str
    _keys: Mapping[str, Jwk] = field(default_factory=dict)
    _fetched: float | None = None
    _resting_until: float = 0.0

    def has_signed(self, algorithm: str, key_id: str, message: bytes, signature: bytes) -> bool:
        """Whether the key of that id fits the algorithm, RS256 or ES256, and made the signature.

        Raises IdentityProviderUnavailable where no keys are known, and ConfigurationMissing for an unfit address.
        """
        key = self._find(key_id)
        return key is not None and _fits(key, algorithm) and _verify(key, algorithm, message, signature)

    def _find(self, key_id: str) -> Jwk | None:
        now = time.monotonic()
        if (key_id not in self._keys or self._is_older(AGE_SECONDS_MAX, now)) and now >= self._resting_until:
            self._fetch(now)
        if self._is_older(OUTAGE_SECONDS_MAX, now):
            raise IdentityProviderUnavailable(FIRST_PAUSE_SECONDS)
        return self._keys.get(key_id)

    def _is_older(self, seconds: int, now: float) -> bool:
        return self._fetched is None or now - self._fetched >= seconds

    def _fetch(self, now: float) -> None:
        try:
            self._keys = _keys_of(_get(self.url))
            self._fetched = now
        except (HTTPError, ValueError, RecursionError) as error:
            logger().warning("The session tokens' keys cannot be fetched", extra={"reason": repr(error)})
        self._resting_until = now + (FIRST_PAUSE_SECONDS if self._fetched is None else PAUSE_SECONDS)


def _get(url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ConfigurationMissing("SESSION_JWKS_URL must begin with https://: whoever alters the keys can be any user")
    with urllib3.PoolManager() as http:
        answer = http.request(
            "GET", url, timeout=urllib3.Timeout(total=ANSWER_SECONDS_MAX), retries=False, preload_content=False
        )
        body = answer.read(BYTES_MAX + 1)
    if answer.status != HTTP_OK or len(body) > BYTES_MAX:
        raise ValueError(f"status {answer.status}, {len(body)} bytes")
    return body


def _keys_of(body: bytes) -> Mapping[str, Jwk]:
    """The set's keys by their ids. Raises ValueError for what is no JWK Set."""
    match json.loads(body):
        case {"keys": list(listed)}:
            keys = [each for each in listed if isinstance(each, dict) and isinstance(each.get("kid"), str)]
            return {key["kid"]: key for key in keys}
        case _:
            raise ValueError("no JWK Set")


def _fits(key: Jwk, algorithm: str) -> bool:
    meant = {**KEY_TYPES[algorithm], "use": "sig", "alg": algorithm}
    optional = {"use", "alg"} - key.keys()
    return all(name in optional or key.get(name) == value for name, value in meant.items())


def _verify(key: Jwk, algorithm: str, message: bytes, signature: bytes) -> bool:
    from jwt import PyJWK, PyJWTError  # noqa: PLC0415 - 80 ms that tokens with a shared secret do not spend

    try:
        loaded = PyJWK({name: key[name] for name in PUBLIC_MEMBERS if name in key}, algorithm)
    except PyJWTError:
        return False
    is_too_short = loaded.Algorithm.check_key_length(loaded.key) is not None
    return not is_too_short and loaded.Algorithm.verify(message, loaded.key, signature)
