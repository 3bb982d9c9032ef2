"""Session tokens: JWTs (RFC 7519) of the product's users, issued by its identity provider.

Tokens are parsed and HS256 signatures verified with the standard library. RS256 and ES256 need `billing.api.jwks`.
Keys and URLs in a token's header are never used.
"""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Never, TypeGuard

from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import Unauthenticated
from billing.domain.identifiers import is_id
from billing.settings import SessionSettings

LENGTH_MAX = 8192
"""API Gateway accepts 10,240 bytes of headers in total."""

LEEWAY_SECONDS = 30
"""Allowed clock difference between the identity provider and Lambda."""

NUMERIC_DATE_MAX = 253_402_300_799
"""Last second of the year 9999. A later `exp` is an error, such as a time in milliseconds, and would never expire."""

JWKS_ALGORITHMS = frozenset({"RS256", "ES256"})
MALFORMED = "malformed session token"
COMPACT = re.compile(r"([\w-]+)\.([\w-]+)\.([\w-]+)", re.ASCII)
PRINTABLE = re.compile(r"[ -~]{1,255}")
"""Form of a user id (OpenID Connect Core, section 2) and of a key id."""

type JsonObject = Mapping[str, Any]
type VerifySignature = Callable[[str, str, bytes, bytes], bool]
"""Verifies a signature by algorithm, key id, message and signature."""


@dataclass(frozen=True, slots=True)
class SessionTokens:
    """Checker of session tokens.

    Attributes:
        shared_secrets: Returns the HS256 secrets.
        verify_by_jwks: Verifies RS256 and ES256 signatures; None if no JWKS is configured.
    """

    settings: SessionSettings
    shared_secrets: Callable[[], Sequence[str]]
    verify_by_jwks: VerifySignature | None

    def check(self, token: str, now: datetime) -> Credential:
        """Return the user's credential.

        Raises:
            Unauthenticated: The token is not valid.
            IdentityProviderUnavailable: The signature cannot be verified.
        """
        claims = self._verified_claims(token)
        user_id = claims.get("sub")
        account_id = _find(claims, self.settings.account_claim)
        audience = self.settings.audience
        _require(_is_current(claims, now), "session token expired or not yet valid (exp, nbf, iat)")
        _require(claims.get("iss") == self.settings.issuer, "session token with another iss")
        _require(audience is None or audience in _strings(claims.get("aud")), "session token with another aud")
        _require(is_printable(user_id), "session token with an invalid sub")
        _require(isinstance(account_id, str) and is_id(account_id), "session token with an invalid account claim")
        return Credential(CredentialKind.SESSION_TOKEN, account_id, f"user:{user_id}", self._can_manage_billing(claims))

    def _verified_claims(self, token: str) -> JsonObject:
        parts = COMPACT.fullmatch(token) if len(token) <= LENGTH_MAX else None
        if parts is None:
            raise Unauthenticated("neither a key nor a session token")
        header, signature = _decode_object(parts[1]), _decode(parts[3])
        # RFC 7515, section 4.1.11: a token with an extension that is not understood must be rejected.
        _require("crit" not in header, "session token with crit")
        is_valid = self._is_signature_valid(header, token[: parts.end(2)].encode(), signature)
        _require(is_valid, "session token with an invalid signature")
        return _decode_object(parts[2])

    def _is_signature_valid(self, header: JsonObject, message: bytes, signature: bytes) -> bool:
        """Return True if a key of this deployment for the header's algorithm made the signature."""
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm == "HS256":
            expected = [hmac.digest(secret.encode(), message, "sha256") for secret in self.shared_secrets()]
            return any(hmac.compare_digest(each, signature) for each in expected)
        if self.verify_by_jwks is None or not isinstance(algorithm, str) or algorithm not in JWKS_ALGORITHMS:
            return False
        return is_printable(key_id) and self.verify_by_jwks(algorithm, key_id, message, signature)

    def _can_manage_billing(self, claims: JsonObject) -> bool:
        role_claim = self.settings.role_claim
        return role_claim is None or not self.settings.billing_roles.isdisjoint(_strings(_find(claims, role_claim)))


# --- Claims -----------------------------------------------------------------------------------------------------------


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise Unauthenticated(reason)


def _is_current(claims: JsonObject, now: datetime) -> bool:
    """Check `exp`, which is required, and `nbf` and `iat`, which are optional (RFC 7519, sections 4.1.4 to 4.1.6)."""
    seconds = now.timestamp()
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    if "exp" not in times or not all(map(_is_numeric_date, times.values())):
        return False
    begins: float = max(times.get("nbf", 0), times.get("iat", 0))
    ends: float = times["exp"]
    return begins - LEEWAY_SECONDS <= seconds < ends + LEEWAY_SECONDS


def _is_numeric_date(value: object) -> bool:
    """Return True for a number of seconds since 1970. JSON such as `1e999` is parsed to infinity, which is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= NUMERIC_DATE_MAX


def _find(claims: JsonObject, name: str) -> Any:  # noqa: ANN401 - any claim
    """Return the claim with exactly that name, else the nested claim at that dotted path, else None."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _strings(value: object) -> list[str]:
    """Return a claim of one or several strings as a list; None is no string. Raises Unauthenticated for other types."""
    if value is None:
        return []
    values: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise Unauthenticated(MALFORMED)
    return values


def is_printable(value: object) -> TypeGuard[str]:
    """Return True if a value has the form of a user id or key id."""
    return isinstance(value, str) and PRINTABLE.fullmatch(value) is not None


# --- Encodings of RFC 7515 --------------------------------------------------------------------------------------------


def _decode(part: str) -> bytes:
    """Decode base64url without padding; only the canonical form is accepted."""
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise Unauthenticated(MALFORMED) from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        raise Unauthenticated(MALFORMED)
    return decoded


def _decode_object(part: str) -> JsonObject:
    try:
        value = json.loads(
            _decode(part).decode(), object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant
        )
    except (ValueError, RecursionError):
        raise Unauthenticated(MALFORMED) from None
    if not isinstance(value, dict):
        raise Unauthenticated(MALFORMED)
    return value


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> JsonObject:
    """Return a JSON object. Parsers treat duplicate names differently (RFC 8259, section 4), so none are accepted."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise Unauthenticated(MALFORMED)
    return members


def _reject_constant(_constant: str) -> Never:
    raise Unauthenticated(MALFORMED)
