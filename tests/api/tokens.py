"""Session tokens as an identity provider makes them, and some that it never would."""

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from billing.domain.credentials import Credential, CredentialKind
from billing.settings import SessionSettings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
SECRET, OLD_SECRET = "s" * 32, "o" * 32
SETTINGS = SessionSettings(
    issuer="https://login.example.com",
    audience="billing",
    jwks_url=None,
    secret_id="arn:session",
    account_claim="org.id",
    role_claim="role",
    billing_roles=frozenset({"owner", "billing"}),
)
CLAIMS: Mapping[str, Any] = {
    "iss": "https://login.example.com",
    "aud": "billing",
    "sub": "user_1",
    "exp": SECONDS + 300,
    "iat": SECONDS - 60,
    "nbf": SECONDS - 60,
    "org": {"id": "acme"},
    "role": "owner",
}
ACME = Credential(CredentialKind.SESSION_TOKEN, "acme", "user:user_1", can_manage_billing=True)

type JsonObject = Mapping[str, Any]
type Sign = Callable[[bytes], bytes]


def encode(part: bytes) -> str:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def hs256(secret: str | bytes = SECRET) -> Sign:
    """Return an HS256 signer with a shared secret."""
    key = secret.encode() if isinstance(secret, str) else secret
    return lambda message: hmac.digest(key, message, "sha256")


def assemble(header: bytes, claims: bytes, sign: Sign | None = None) -> str:
    """Return a token of these bytes with a valid signature."""
    message = f"{encode(header)}.{encode(claims)}"
    return f"{message}.{encode((sign or hs256())(message.encode()))}"


def sign_token(claims: JsonObject = CLAIMS, sign: Sign | None = None, **header: Any) -> str:
    """Return a valid token, except for these claims and header parameters."""
    return assemble(json.dumps({"alg": "HS256"} | header).encode(), json.dumps(claims).encode(), sign)


def without_claim(name: str) -> JsonObject:
    """Return `CLAIMS` without one of them."""
    return {each: value for each, value in CLAIMS.items() if each != name}


@dataclass(frozen=True)
class Signer:
    """A key pair of the identity provider."""

    kid: str
    alg: str
    sign: Sign
    jwk: JsonObject
    public_pem: bytes

    def token(self, claims: JsonObject = CLAIMS, **header: Any) -> str:
        """Return a token that this key signed."""
        return sign_token(claims, self.sign, **({"alg": self.alg, "kid": self.kid} | header))


def rsa_signer(kid: str, bits: int = 2048) -> Signer:
    """Return a new RS256 key."""
    private = rsa.generate_private_key(65537, bits)
    algorithm = RSAAlgorithm(RSAAlgorithm.SHA256)
    return _signer(kid, "RS256", private, lambda message: algorithm.sign(message, private))


def ec_signer(kid: str, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> Signer:
    """Return a new ES256 key."""
    private = ec.generate_private_key(curve())
    algorithm = ECAlgorithm(ECAlgorithm.SHA256)
    return _signer(kid, "ES256", private, lambda message: algorithm.sign(message, private))


def _signer(kid: str, alg: str, private: Any, sign: Sign) -> Signer:
    kind = RSAAlgorithm if alg == "RS256" else ECAlgorithm
    jwk = json.loads(kind.to_jwk(private.public_key())) | {"kid": kid, "alg": alg, "use": "sig"}
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Signer(kid, alg, sign, jwk, pem)
