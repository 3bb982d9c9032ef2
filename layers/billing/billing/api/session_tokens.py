"""Session tokens: the JWTs (RFC 7519) with which a product's own users ask. Whatever is doubtful does not count.

The token is read here with the standard library, whatever its algorithm; only RS256 and ES256 need more, in
`billing.api.jwks`. Nothing that a token brings or names is used as a key, or fetched.
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

from billing.api.jwks import KEY_TYPES, Jwks
from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import Unauthenticated
from billing.domain.identifiers import is_id
from billing.settings import SessionSettings

LENGTH_MAX = 8192
"""API Gateway takes 10,240 bytes of headers in all."""

LEEWAY_SECONDS = 30
"""For which the clocks of the identity provider and of Lambda may differ."""

MALFORMED = "a session token that is not well-formed"
COMPACT = re.compile(r"([\w-]+)\.([\w-]+)\.([\w-]+)", re.ASCII)
PRINTABLE = re.compile(r"[ -~]{1,255}")
"""What a user's id may be (OpenID Connect Core, 2), and a key's."""

type Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionTokens:
    """What a deployment takes for a session token. HS256 needs a shared secret, RS256 and ES256 need `jwks`."""

    settings: SessionSettings
    shared_secrets: Callable[[], Sequence[str]]
    jwks: Jwks | None

    def check(self, token: str, now: datetime) -> Credential:
        """The user's credential. Raises Unauthenticated; IdentityProviderUnavailable where it could not be checked."""
        claims = self._signed_claims(token)
        user_id = claims.get("sub")
        account_id = _find(claims, self.settings.account_claim)
        audience = self.settings.audience
        _require(_is_current(claims, now), "a session token that does not count now, by its exp, nbf and iat")
        _require(claims.get("iss") == self.settings.issuer, "a session token of another iss")
        _require(audience is None or audience in _texts(claims.get("aud")), "a session token for another aud")
        _require(is_printable(user_id), "a session token whose sub is no user's id")
        _require(isinstance(account_id, str) and is_id(account_id), "a session token whose account claim is none")
        return Credential(CredentialKind.SESSION_TOKEN, account_id, f"user:{user_id}", self._can_manage_billing(claims))

    def _signed_claims(self, token: str) -> Json:
        parts = COMPACT.fullmatch(token) if len(token) <= LENGTH_MAX else None
        if parts is None:
            raise Unauthenticated("neither a key nor a session token")
        header, signature = _json_object(parts[1]), _decode(parts[3])
        # No extension is understood here, and RFC 7515, 4.1.11 has the token refused then.
        _require("crit" not in header, "a session token with crit")
        signed = self._is_signed(header, token[: parts.end(2)].encode(), signature)
        _require(signed, "a session token that no known key has signed")
        return _json_object(parts[2])

    def _is_signed(self, header: Json, message: bytes, signature: bytes) -> bool:
        """Whether a key of this deployment, fit for the algorithm that the header names, made the signature."""
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm == "HS256":
            expected = [hmac.digest(secret.encode(), message, "sha256") for secret in self.shared_secrets()]
            return any(hmac.compare_digest(each, signature) for each in expected)
        if self.jwks is None or not isinstance(algorithm, str) or algorithm not in KEY_TYPES:
            return False
        return is_printable(key_id) and self.jwks.has_signed(algorithm, key_id, message, signature)

    def _can_manage_billing(self, claims: Json) -> bool:
        role_claim = self.settings.role_claim
        return role_claim is None or not self.settings.billing_roles.isdisjoint(_texts(_find(claims, role_claim)))


# --- claims -----------------------------------------------------------------------------------------------------------


def _require(holds: object, reason: str) -> None:
    if not holds:
        raise Unauthenticated(reason)


def _is_current(claims: Json, now: datetime) -> bool:
    """RFC 7519, 4.1.4 to 4.1.6, in seconds: must expire, and not yet have; may say from when it counts."""
    seconds = now.timestamp()
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    if "exp" not in times or not all(type(each) in {int, float} for each in times.values()):
        return False
    begins: float = max(times.get("nbf", 0), times.get("iat", 0))
    ends: float = times["exp"]
    return begins - LEEWAY_SECONDS <= seconds < ends + LEEWAY_SECONDS


def _find(claims: Json, name: str) -> Any:  # noqa: ANN401 - whatever the claim holds
    """The claim of exactly that name, else the one that its dots lead to; None where there is neither."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for step in name.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _texts(value: object) -> list[str]:
    """A claim that holds a string or several. Raises Unauthenticated for anything else but nothing."""
    if value is None:
        return []
    several: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in several):
        raise Unauthenticated(MALFORMED)
    return several


def is_printable(value: object) -> TypeGuard[str]:
    """Whether a value can be the id of a user or a key."""
    return isinstance(value, str) and PRINTABLE.fullmatch(value) is not None


# --- RFC 7515's encodings ---------------------------------------------------------------------------------------------


def _decode(part: str) -> bytes:
    """Base64url without padding, in its one canonical form."""
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise Unauthenticated(MALFORMED) from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        raise Unauthenticated(MALFORMED)
    return decoded


def _json_object(part: str) -> Json:
    try:
        value = json.loads(_decode(part).decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Unauthenticated(MALFORMED) from None
    if not isinstance(value, dict):
        raise Unauthenticated(MALFORMED)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Json:
    """A name that stands twice is read differently by different readers (RFC 8259, 4)."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise Unauthenticated(MALFORMED)
    return members


def _refuse(_constant: str) -> Never:
    raise Unauthenticated(MALFORMED)
