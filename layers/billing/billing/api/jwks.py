"""JSON Web Key Set (RFC 7517) of the identity provider. Imports PyJWT and cryptography."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import urllib3
from jwt import PyJWK, PyJWTError
from urllib3.exceptions import HTTPError

from billing.domain.errors import ConfigurationMissing, IdentityProviderUnavailable
from billing.telemetry import logger

AGE_SECONDS_MAX = 600
"""Age at which the keys are fetched again. A key that the provider removes is accepted no longer than that."""

OUTAGE_SECONDS_MAX = 24 * 3600
"""Age up to which the stored keys are accepted while the provider is unavailable."""

PAUSE_SECONDS = 30
"""Shortest time between two requests, whatever number of unknown keys tokens name."""

FIRST_PAUSE_SECONDS = 5
"""`PAUSE_SECONDS` until the first response of the provider: without keys no token can be checked."""

RESPONSE_SECONDS_MAX = 2
BYTES_MAX = 256 * 1024
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HTTP_OK = 200

KEY_TYPES: Mapping[str, Mapping[str, str]] = {
    "RS256": {"kty": "RSA"},
    "ES256": {"kty": "EC", "crv": "P-256"},
}
"""Required members of a key, by algorithm (RFC 7518, sections 3.1 and 6.1)."""

PUBLIC_MEMBERS = ("kty", "n", "e", "crv", "x", "y")

type Jwk = Mapping[str, Any]


@dataclass(slots=True)
class Jwks:
    """Key set at a URL, stored in memory. It is fetched again after ten minutes, or if a token names an unknown key."""

    url: str
    _keys: Mapping[str, Jwk] = field(default_factory=dict)
    _fetched: float | None = None
    _paused_until: float = 0.0

    def verify(self, algorithm: str, key_id: str, message: bytes, signature: bytes) -> bool:
        """Return True if the key with that id fits the algorithm and made the signature.

        Args:
            algorithm: RS256 or ES256.
            key_id: Id of the key.
            message: Signed bytes.
            signature: Signature of the message.

        Raises:
            IdentityProviderUnavailable: No keys are stored, or they are too old.
            ConfigurationMissing: The URL is neither HTTPS nor a loopback address.
        """
        key = self._find(key_id)
        return key is not None and _fits(key, algorithm) and _is_valid(key, algorithm, message, signature)

    def _find(self, key_id: str) -> Jwk | None:
        now = time.monotonic()
        if (key_id not in self._keys or self._is_older(AGE_SECONDS_MAX, now)) and now >= self._paused_until:
            self._fetch(now)
        if self._is_older(OUTAGE_SECONDS_MAX, now):
            raise IdentityProviderUnavailable(FIRST_PAUSE_SECONDS)
        return self._keys.get(key_id)

    def _is_older(self, seconds: int, now: float) -> bool:
        return self._fetched is None or now - self._fetched >= seconds

    def _fetch(self, now: float) -> None:
        try:
            self._keys = _parse_key_set(_get(self.url))
            self._fetched = now
        except (HTTPError, ValueError, RecursionError) as error:
            logger().warning("JWKS not fetched", extra={"reason": repr(error)})
        self._paused_until = now + (FIRST_PAUSE_SECONDS if self._fetched is None else PAUSE_SECONDS)


def _get(url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ConfigurationMissing("SESSION_JWKS_URL must begin with https://, so that nobody can replace the keys")
    with urllib3.PoolManager() as http:
        response = http.request(
            "GET", url, timeout=urllib3.Timeout(total=RESPONSE_SECONDS_MAX), retries=False, preload_content=False
        )
        body = response.read(BYTES_MAX + 1)
    if response.status != HTTP_OK or len(body) > BYTES_MAX:
        raise ValueError(f"status {response.status}, {len(body)} bytes")
    return body


def _parse_key_set(body: bytes) -> Mapping[str, Jwk]:
    """Return the keys by id. Raises ValueError if the body is not a JWK Set."""
    match json.loads(body):
        case {"keys": list(listed)}:
            keys = [each for each in listed if isinstance(each, dict) and isinstance(each.get("kid"), str)]
            return {key["kid"]: key for key in keys}
        case _:
            raise ValueError("not a JWK Set")


def _fits(key: Jwk, algorithm: str) -> bool:
    """Return True if a key is for signatures with the algorithm; `use` and `alg` are optional members."""
    expected = {**KEY_TYPES[algorithm], "use": "sig", "alg": algorithm}
    absent = {"use", "alg"} - key.keys()
    return all(name in absent or key.get(name) == value for name, value in expected.items())


def _is_valid(key: Jwk, algorithm: str, message: bytes, signature: bytes) -> bool:
    try:
        loaded = PyJWK({name: key[name] for name in PUBLIC_MEMBERS if name in key}, algorithm)
    except PyJWTError:
        return False
    is_too_short = loaded.Algorithm.check_key_length(loaded.key) is not None
    return not is_too_short and loaded.Algorithm.verify(message, loaded.key, signature)
