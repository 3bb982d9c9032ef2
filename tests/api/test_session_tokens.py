"""Session tokens: what the identity provider signed for this deployment counts, and nothing else does."""

import base64
import hmac
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from billing.adapters import aws
from billing.adapters.repository import Repository
from billing.adapters.secrets import read_session_secrets
from billing.api.authentication import Authenticator
from billing.api.jwks import Jwks
from billing.api.session_tokens import LENGTH_MAX, SessionTokens
from billing.bootstrap import app
from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import ConfigurationMissing, IdentityProviderUnavailable, Unauthenticated
from billing.settings import SessionSettings
from local.stack import ROOT
from tests.wire import Answer, Wire

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

type Json = Mapping[str, Any]
type Sign = Callable[[bytes], bytes]


def encoded(part: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def hs256(secret: str | bytes = SECRET) -> Sign:
    """Signs as HS256 with a shared secret."""
    key = secret.encode() if isinstance(secret, str) else secret
    return lambda message: hmac.digest(key, message, "sha256")


def assembled(header: bytes, claims: bytes, sign: Sign | None = None) -> str:
    """A token of these bytes, with a true signature."""
    message = f"{encoded(header)}.{encoded(claims)}"
    return f"{message}.{encoded((sign or hs256())(message.encode()))}"


def token(claims: Json = CLAIMS, sign: Sign | None = None, **header: Any) -> str:
    """A token that the identity provider could have made, but for what is told."""
    return assembled(json.dumps({"alg": "HS256"} | header).encode(), json.dumps(claims).encode(), sign)


def without(name: str) -> Json:
    """The claims but one."""
    return {each: value for each, value in CLAIMS.items() if each != name}


@pytest.fixture
def tokens() -> SessionTokens:
    """A deployment that shares a secret with its identity provider, and the one before it."""
    return SessionTokens(SETTINGS, lambda: (SECRET, OLD_SECRET), None)


# --- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_a_token_is_its_users_credential(tokens: SessionTokens, secret: str) -> None:
    """It acts for the account of its claim, as its user, with either secret of a rotation."""
    assert tokens.check(token(sign=hs256(secret)), NOW) == ACME


@pytest.mark.parametrize(
    "header", [{"typ": "JWT"}, {"typ": "at+jwt"}, {"kid": "any"}, {"jku": "https://evil.example"}, {"jwk": {"k": "x"}}]
)
def test_other_headers_do_not_matter(tokens: SessionTokens, header: dict[str, Any]) -> None:
    """What a header names or brings is neither fetched nor used."""
    assert tokens.check(token(**header), NOW) == ACME


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["other", "billing"]},
        {"exp": SECONDS - 29},
        {"nbf": SECONDS + 30},
        {"iat": SECONDS + 30},
        {"exp": SECONDS + 10**9},
        {"role": ["guest", "billing"]},
        {"unknown": {"deeply": [{"nested": None}]}},
    ],
)
def test_what_an_identity_provider_may_say_otherwise(tokens: SessionTokens, changed: Json) -> None:
    """Several audiences or roles, a clock that is half a minute off, claims that mean nothing to us."""
    assert tokens.check(token({**CLAIMS, **changed}), NOW) == ACME


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_a_token_need_not_say_since_when(tokens: SessionTokens, name: str) -> None:
    """Only the end is required."""
    assert tokens.check(token(without(name)), NOW) == ACME


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("sub", {}),
        ("org_id", {"org_id": "acme"}),
        ("https://example.com/account", {"https://example.com/account": "acme"}),
        ("custom:account", {"custom:account": "acme"}),
        ("a.b.c", {"a": {"b": {"c": "acme"}}}),
        ("a.b", {"a.b": "acme", "a": {"b": "other"}}),
    ],
)
def test_the_account_is_in_the_claim_of_that_name(name: str, claims: Json) -> None:
    """A claim of exactly that name comes first, else the dots lead into nested ones."""
    tokens = SessionTokens(replace(SETTINGS, account_claim=name), lambda: (SECRET,), None)
    claims = {**CLAIMS, **claims, "sub": "acme"}
    assert tokens.check(token(claims), NOW).account_id == "acme"


@pytest.mark.parametrize(
    ("role_claim", "claims", "can_manage_billing"),
    [
        (None, {}, True),
        ("role", {"role": "owner"}, True),
        ("role", {"role": ["guest", "owner"]}, True),
        ("role", {"role": "guest"}, False),
        ("role", {"role": "Owner"}, False),
        ("role", {"role": "owner,billing"}, False),
        ("role", {"role": []}, False),
        ("role", {"role": None}, False),
        ("nothing.there", {}, False),
        ("org.roles", {"org": {"id": "acme", "roles": ["billing"]}}, True),
        ("cognito:groups", {"cognito:groups": ["owner"]}, True),
    ],
)
def test_the_role_says_who_may_pay(role_claim: str | None, claims: Json, *, can_manage_billing: bool) -> None:
    """Without a role claim everyone may; with one only who has one of the roles."""
    tokens = SessionTokens(replace(SETTINGS, role_claim=role_claim), lambda: (SECRET,), None)
    assert tokens.check(token({**CLAIMS, **claims}), NOW) == replace(ACME, can_manage_billing=can_manage_billing)


def test_without_a_configured_audience_none_is_asked_for(tokens: SessionTokens) -> None:
    """As Clerk's tokens have none."""
    tokens = replace(tokens, settings=replace(SETTINGS, audience=None))
    assert tokens.check(token(without("aud")), NOW) == ACME
    assert tokens.check(token(), NOW) == ACME


# --- what does not ----------------------------------------------------------------------------------------------------

HEADER = b'{"alg": "HS256"}'
BODY = json.dumps(CLAIMS).encode()
[_HEADER, _CLAIMS, _SIGNATURE] = token().split(".")

HOSTILE: Mapping[str, str] = {
    "empty": "",
    "dots alone": "..",
    "one part": "token",
    "two parts": f"{_HEADER}.{_CLAIMS}",
    "four parts": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE}.{_SIGNATURE}",
    "five parts, as an encrypted token has": ".".join([_HEADER] * 5),
    "no signature": f"{_HEADER}.{_CLAIMS}.",
    "no claims": f"{_HEADER}..{_SIGNATURE}",
    "another signature": f"{_HEADER}.{_CLAIMS}.{encoded(bytes(32))}",
    "a shorter signature": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE[:-4]}",
    "padding": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE}=",
    "standard base64": f"{_HEADER}.{_CLAIMS}.+/{_SIGNATURE[2:]}",
    "a length that base64 cannot have": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE}aa",
    "bits beyond the end": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE[:-1]}{chr(ord(_SIGNATURE[-1]) + 1)}",
    "white space": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE}\n",
    "other digits": f"{_HEADER}.{_CLAIMS}.\u0661{_SIGNATURE}",
    "claims of another token": f"{_HEADER}.{encoded(json.dumps({**CLAIMS, 'sub': 'root'}).encode())}.{_SIGNATURE}",
    "no algorithm": assembled(b"{}", BODY),
    "alg none": token(alg="none"),
    "alg none, unsigned": token(alg="none", sign=lambda _message: b""),
    "alg None": token(alg="None"),
    "alg null": token(alg=None),
    "alg a list": token(alg=["HS256"]),
    "alg an object": token(alg={"HS256": 1}),
    "alg in lower case": token(alg="hs256"),
    "HS384": token(alg="HS384", sign=lambda message: hmac.digest(SECRET.encode(), message, "sha384")),
    "RS256 without a JWKS": token(alg="RS256", kid="a"),
    "another secret": token(sign=hs256("x" * 32)),
    "an empty secret": token(sign=hs256("")),
    "an extension that must be understood": token(crit=["b64"], b64=False),
    "an empty crit": token(crit=[]),
    "header a list": assembled(b"[]", BODY),
    "header a text": assembled(b'"HS256"', BODY),
    "header no JSON": assembled(b"alg=HS256", BODY),
    "header twice HS256": assembled(b'{"alg": "HS256", "alg": "HS256"}', BODY),
    "header none, then HS256": assembled(b'{"alg": "none", "alg": "HS256"}', BODY),
    "header in UTF-16": assembled(HEADER.decode().encode("utf-16"), BODY),
    "claims a list": assembled(HEADER, b"[]"),
    "claims null": assembled(HEADER, b"null"),
    "claims another token": assembled(HEADER, token().encode()),
    "claims not UTF-8": assembled(HEADER, b'{"sub": "\xff"}'),
    "claims with a byte order mark": assembled(HEADER, b"\xef\xbb\xbf" + BODY),
    "claims twice the same": assembled(HEADER, BODY[:-1] + b', "sub": "root"}'),
    "claims nested twice the same": assembled(HEADER, BODY[:-1] + b', "x": {"id": "a", "id": "b"}}'),
    "claims with NaN": assembled(HEADER, BODY[:-1] + b', "x": NaN}'),
    "claims with infinity": assembled(HEADER, BODY[:-1] + b', "x": -Infinity}'),
    "claims with a number of 5,000 digits": assembled(HEADER, BODY[:-1] + b', "x": ' + b"9" * 5000 + b"}"),
    "an account nested 500 deep": token({**CLAIMS, "org": json.loads('{"id":' * 500 + "1" + "}" * 500)}),
    "huge": token({**CLAIMS, "x": "x" * LENGTH_MAX}),
    "nested without end": f"{_HEADER}.{encoded(b'[' * 50_000)}.{_SIGNATURE}",
}


REASONS = {
    "neither a key nor a session token",
    "a session token that is not well-formed",
    "a session token that no known key has signed",
    "a session token with crit",
    "a session token whose account claim is none",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_token_is_refused(tokens: SessionTokens, hostile: str) -> None:
    """Whatever it tries, it is refused, and without a word of it in the error."""
    with pytest.raises(Unauthenticated) as refused:
        tokens.check(hostile, NOW)
    assert str(refused.value) == str(Unauthenticated("whatever it was"))
    assert refused.value.reason in REASONS
    assert refused.value.__cause__ is None


OTHERS: Mapping[str, list[Any]] = {
    "iss": [None, 1, [], ["https://login.example.com"], {}, "", "https://login.example.com/", "https://evil.example"],
    "aud": [None, 1, {}, [], "", "other", ["other"], [None], [1, "billing"], ["billing", ["billing"]], {"billing": 1}],
    "sub": [None, 1, True, [], ["user_1"], {}, "", "u" * 256, "tab\t", "é", "\ud800", "nul\x00"],
    "exp": [None, "1795000000", True, [], {}, SECONDS - 30, 0, -1],
    "nbf": [None, "1", False, [], {}, SECONDS + 31],
    "iat": [None, "1", False, [], {}, SECONDS + 31],
    "org": [None, "acme", 1, [], ["id"], {}, {"id": None}, {"id": 1}, {"id": ["acme"]}, {"id": {"id": "acme"}}]
    + [{"id": each} for each in ("", "a b", "a#b", "é", "a" * 256, "a\n", "\ud800")],
    "role": [1, True, {}, {"owner": True}, [None], ["owner", 1], [["owner"]]],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in OTHERS.items() for value in values],
    ids=lambda value: repr(value)[:40],
)
def test_a_claim_that_is_not_as_it_must_be(tokens: SessionTokens, name: str, value: object) -> None:
    """A token that is signed, and says something else than it must, does not count."""
    with pytest.raises(Unauthenticated):
        tokens.check(token({**CLAIMS, name: value}), NOW)


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp", "org"])
def test_a_claim_that_is_missing(tokens: SessionTokens, name: str) -> None:
    """Every one of them is needed."""
    with pytest.raises(Unauthenticated):
        tokens.check(token(without(name)), NOW)


def test_a_token_ends(tokens: SessionTokens) -> None:
    """Half a minute after its `exp`, to the second."""
    assert tokens.check(token(), NOW + timedelta(seconds=329)) == ACME
    with pytest.raises(Unauthenticated):
        tokens.check(token(), NOW + timedelta(seconds=330))


def test_without_a_shared_secret_no_signature_counts() -> None:
    """Not even one with an empty secret."""
    for secret in ("", SECRET):
        with pytest.raises(Unauthenticated):
            SessionTokens(SETTINGS, tuple, None).check(token(sign=hs256(secret)), NOW)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.text(st.characters(codec=None)) | st.from_regex(r"\A[\w-]*\.[\w-]*\.[\w-]*\Z"))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    """Whatever stands for a token, Unauthenticated is all that is raised."""
    with pytest.raises(Unauthenticated):
        SessionTokens(SETTINGS, lambda: (SECRET,), None).check(text, NOW)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "crit", "typ", "jwk"]), ANYTHING), ANYTHING)
def test_no_header_and_no_claims_do_more_than_be_refused(header: dict[str, Any], claims: object) -> None:
    """Also with a true signature: any JSON at all is refused, not stumbled over."""
    text = assembled(json.dumps(header).encode(), json.dumps(claims).encode())
    with pytest.raises((Unauthenticated, IdentityProviderUnavailable)):
        SessionTokens(SETTINGS, lambda: (SECRET,), Jwks("http://127.0.0.1:1")).check(text, NOW)


@given(st.sampled_from(sorted(OTHERS)), ANYTHING)
def test_no_claim_does_more_than_be_refused(name: str, value: object) -> None:
    """A signed token with anything in one claim either counts or is refused."""
    try:
        SessionTokens(SETTINGS, lambda: (SECRET,), None).check(token({**CLAIMS, name: value}), NOW)
    except Unauthenticated:
        return


# --- by the identity provider's keys ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signer:
    """A key pair of the identity provider."""

    kid: str
    alg: str
    sign: Sign
    jwk: Mapping[str, Any]
    public_pem: bytes

    def token(self, claims: Json = CLAIMS, **header: Any) -> str:
        """A token by this key."""
        return token(claims, self.sign, **({"alg": self.alg, "kid": self.kid} | header))


def rsa_signer(kid: str, bits: int = 2048) -> Signer:
    """A new key for RS256."""
    private = rsa.generate_private_key(65537, bits)
    algorithm = RSAAlgorithm(RSAAlgorithm.SHA256)
    return _signer(kid, "RS256", private, lambda message: algorithm.sign(message, private))


def ec_signer(kid: str, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> Signer:
    """A new key for ES256."""
    private = ec.generate_private_key(curve())
    algorithm = ECAlgorithm(ECAlgorithm.SHA256)
    return _signer(kid, "ES256", private, lambda message: algorithm.sign(message, private))


def _signer(kid: str, alg: str, private: Any, sign: Sign) -> Signer:
    kind = RSAAlgorithm if alg == "RS256" else ECAlgorithm
    jwk = json.loads(kind.to_jwk(private.public_key())) | {"kid": kid, "alg": alg, "use": "sig"}
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Signer(kid, alg, sign, jwk, pem)


RSA, EC, NEXT = rsa_signer("rsa"), ec_signer("ec"), rsa_signer("next")


def jwk_set(*keys: object) -> Answer:
    """What the identity provider answers."""
    return Answer(body=json.dumps({"keys": keys}).encode())


@pytest.fixture
def provider(wire: Wire) -> Wire:
    """An identity provider with two keys."""
    wire.answer(jwk_set(RSA.jwk, EC.jwk))
    return wire


@pytest.fixture
def users(provider: Wire) -> SessionTokens:
    """A deployment that takes the identity provider's tokens, and has no shared secret."""
    return SessionTokens(SETTINGS, tuple, Jwks(f"{provider.url}/.well-known/jwks.json"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, to be moved by hand; it starts at 0, as on a machine just booted."""
    clock = [0.0]
    monkeypatch.setattr("billing.api.jwks.time.monotonic", lambda: clock[0])
    return clock


def refused(users: SessionTokens, text: str) -> bool:
    """Whether a token does not count."""
    try:
        users.check(text, NOW)
    except Unauthenticated:
        return True
    return False


@pytest.mark.parametrize("signer", [RSA, EC], ids=lambda signer: signer.alg)
def test_a_token_by_a_published_key_counts(users: SessionTokens, provider: Wire, signer: Signer) -> None:
    """RS256 and ES256, with one look at the identity provider for all tokens."""
    assert [users.check(signer.token(), NOW) for _ in range(3)] == [ACME] * 3
    assert (provider.only.method, provider.only.path) == ("GET", "/.well-known/jwks.json")


@pytest.mark.parametrize(
    "claims", [{**CLAIMS, "iss": "https://evil.example"}, {**CLAIMS, "exp": SECONDS - 60}, without("sub")]
)
def test_a_published_key_is_not_enough(users: SessionTokens, claims: Json) -> None:
    """The claims are checked in the same way."""
    assert refused(users, RSA.token(claims))


def test_the_public_key_is_no_shared_secret(users: SessionTokens) -> None:
    """The classic confusion: HS256 with the published key's own text as the secret."""
    both = replace(users, shared_secrets=lambda: (SECRET,))
    modulus = base64.urlsafe_b64decode(RSA.jwk["n"] + "==")
    for secret in (RSA.public_pem, json.dumps(RSA.jwk).encode(), RSA.jwk["n"].encode(), modulus):
        for tokens in (users, both):
            assert refused(tokens, token(sign=hs256(secret), kid="rsa"))


@pytest.mark.parametrize(
    "kid",
    [
        *(None, 1, True, [], ["rsa"], {"rsa": 1}, "", "x" * 256, "RSA", "rsa ", "rsa\x00", "é", "keys", "n"),
        *("../../etc/passwd", "https://evil.example/jwks.json"),
    ],
)
def test_a_key_id_is_only_looked_up(users: SessionTokens, provider: Wire, kid: object) -> None:
    """It is no path, no address and no member's name: what is not the id of a published key is unknown."""
    assert refused(users, RSA.token(kid=kid))
    assert all(request.path == "/.well-known/jwks.json" for request in provider.requests)


@pytest.mark.parametrize(("published", "kid"), [("None", None), ("5", 5), ("x" * 256, "x" * 256), ("", ""), ("é", "é")])
def test_a_key_id_is_a_short_text(users: SessionTokens, provider: Wire, published: str, kid: object) -> None:
    """Also where the set has a key that could be meant."""
    provider.answer(jwk_set({**RSA.jwk, "kid": published}))
    assert refused(users, RSA.token(kid=kid))
    assert provider.requests == []


def test_a_token_without_a_key_id_is_refused(users: SessionTokens) -> None:
    """There is nothing to look up."""
    assert refused(users, token(sign=RSA.sign, alg="RS256"))


STRANGER = rsa_signer("stranger")


@pytest.mark.parametrize(
    ("signer", "header"),
    [
        (STRANGER, {"kid": "rsa"}),
        (STRANGER, {"kid": "rsa", "jwk": STRANGER.jwk}),
        (STRANGER, {"kid": "rsa", "x5c": ["MIIB"]}),
        (RSA, {"kid": "ec"}),
        (RSA, {"kid": "ec", "alg": "ES256"}),
        (EC, {"kid": "rsa"}),
        (EC, {"kid": "rsa", "alg": "RS256"}),
        (RSA, {"alg": "ES256"}),
        (RSA, {"alg": "RS384"}),
        (RSA, {"alg": "PS256"}),
        (RSA, {"alg": "none"}),
        (RSA, {"crit": ["exp"]}),
    ],
)
def test_a_key_signs_what_it_is_for(users: SessionTokens, signer: Signer, header: dict[str, Any]) -> None:
    """Another's key, a key of another type and an algorithm of another kind do not count."""
    assert refused(users, signer.token(**header))


@pytest.mark.parametrize("name", ["jku", "x5u"])
def test_no_address_of_a_token_is_asked(users: SessionTokens, provider: Wire, name: str) -> None:
    """A token's own idea of where its keys are is not heard."""
    header: dict[str, Any] = {"kid": "stranger", name: f"{provider.url}/evil"}
    assert refused(users, STRANGER.token(**header))
    assert {request.path for request in provider.requests} == {"/.well-known/jwks.json"}


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "enc"},
        {"alg": "RS512"},
        {"kty": "EC"},
        {"kty": "oct", "k": encoded(SECRET.encode())},
        {"kty": None},
        {"n": "AQAB"},
        {"n": 5},
        {"n": ""},
        {"e": None},
    ],
)
def test_a_published_key_that_is_not_for_this(users: SessionTokens, provider: Wire, changed: Json) -> None:
    """A key for encryption, for another algorithm, or one that is broken signs no token."""
    provider.answer(jwk_set({**RSA.jwk, **changed}))
    assert refused(users, RSA.token())


@pytest.mark.parametrize(
    "signer", [rsa_signer("weak", 1024), ec_signer("long", ec.SECP384R1)], ids=lambda each: each.kid
)
def test_a_weak_or_unfit_key_signs_nothing(users: SessionTokens, provider: Wire, signer: Signer) -> None:
    """RSA takes 2,048 bits (RFC 7518, 3.3), ES256 the curve P-256."""
    provider.answer(jwk_set(signer.jwk))
    assert refused(users, signer.token())


def test_a_key_may_leave_out_what_it_is_for(users: SessionTokens, provider: Wire) -> None:
    """`alg` and `use` are optional (RFC 7517, 4). What is no key and a private half in the set are not read."""
    bare = {name: RSA.jwk[name] for name in ("kty", "n", "e", "kid")}
    provider.answer(jwk_set(5, "kid", {"kty": "oct"}, {"kid": ["rsa"]}, bare | {"d": "AQAB"}))
    assert users.check(RSA.token(), NOW) == ACME


# --- rotation and outages ---------------------------------------------------------------------------------------------


def test_a_new_key_counts_at_once(users: SessionTokens, provider: Wire, clock: list[float]) -> None:
    """A key id that is not known yet is looked up, without waiting for the keys to age."""
    users.check(RSA.token(), NOW)
    provider.answer(jwk_set(NEXT.jwk, RSA.jwk))
    clock[0] = 31.0
    assert users.check(NEXT.token(), NOW) == ACME
    assert users.check(RSA.token(), NOW) == ACME
    assert len(provider.requests) == 1


def test_a_withdrawn_key_stops_within_ten_minutes(users: SessionTokens, provider: Wire, clock: list[float]) -> None:
    """However busy it is."""
    users.check(RSA.token(), NOW)
    provider.answer(jwk_set(NEXT.jwk))
    clock[0] = 599.0
    assert users.check(RSA.token(), NOW) == ACME
    clock[0] = 600.0
    assert refused(users, RSA.token())


def test_unknown_keys_cost_one_request_in_half_a_minute(
    users: SessionTokens, provider: Wire, clock: list[float]
) -> None:
    """However many there are, and whatever they are called."""
    for second in range(60):
        clock[0] = float(second)
        assert all(refused(users, RSA.token(kid=f"{second}-{number}")) for number in range(3))
    assert len(provider.requests) == 2


BROKEN: Mapping[str, Answer] = {
    "an error": Answer(status=500),
    "not there": Answer(status=404),
    "elsewhere": Answer(status=302, headers={"location": "http://127.0.0.1:1/"}),
    "no JSON": Answer(body=b"<html>"),
    "not UTF-8": Answer(body=b"\xff\xfe\xfd"),
    "a list": Answer(body=b"[]"),
    "no keys": Answer(body=b"{}"),
    "keys that are none": Answer(body=b'{"keys": {"kid": "rsa"}}'),
    "nested without end": Answer(body=b"[" * 200_000),
    "huge": Answer(body=b'{"keys": []}' + b" " * (256 * 1024)),
    "cut off": Answer(cut=True),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_known_keys_outlive_an_outage(users: SessionTokens, provider: Wire, clock: list[float], answer: Answer) -> None:
    """For a day they count as before, and it is asked for new ones twice a minute; then nothing can be checked."""
    users.check(RSA.token(), NOW)
    provider.answer(answer)
    clock[0] = 24 * 3600 - 100.0
    for _ in range(60):
        clock[0] += 1.0
        assert users.check(RSA.token(), NOW) == ACME
    assert len(provider.requests) == 2
    clock[0] = 24 * 3600.0
    with pytest.raises(IdentityProviderUnavailable):
        users.check(RSA.token(), NOW)
    provider.answer(jwk_set(RSA.jwk))
    clock[0] += 30.0
    assert users.check(RSA.token(), NOW) == ACME


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_a_user_is_not_refused_for_keys_that_never_came(
    users: SessionTokens, provider: Wire, clock: list[float], answer: Answer
) -> None:
    """Whether the token counts is not known, and that is what is said; five seconds later it is tried again."""
    provider.answer(answer)
    for _ in range(3):
        with pytest.raises(IdentityProviderUnavailable) as unavailable:
            users.check(RSA.token(), NOW)
        assert unavailable.value.retry_after_seconds == 5
    assert len(provider.requests) == 1
    provider.answer(jwk_set(RSA.jwk))
    clock[0] = 5.0
    assert users.check(RSA.token(), NOW) == ACME


def test_a_silent_provider_is_not_waited_for(users: SessionTokens, provider: Wire) -> None:
    """Two seconds at most: the test's server would keep silent for three, and then cut the connection."""
    provider.answer(Answer(silent=True))
    began = datetime.now(UTC)
    with pytest.raises(IdentityProviderUnavailable):
        users.check(RSA.token(), NOW)
    assert datetime.now(UTC) - began < timedelta(seconds=2.9)


def test_an_outage_is_logged_without_the_token(
    users: SessionTokens, provider: Wire, printed: Callable[[], str]
) -> None:
    """The operator sees that keys are missing; of the token there is nothing in the log."""
    provider.answer(Answer(status=503))
    text = RSA.token()
    with pytest.raises(IdentityProviderUnavailable) as unavailable:
        users.check(text, NOW)
    log = printed()
    assert "status 503" in log
    for part in (*text.split("."), "user_1", "acme"):
        assert part not in log + str(unavailable.value)


@pytest.mark.parametrize(
    "url", ["http://login.example.com/jwks.json", "ftp://localhost.example/", "file:///etc/passwd"]
)
def test_keys_come_over_https(url: str) -> None:
    """Whoever could alter the keys on their way could be any user; this machine itself is let be."""
    with pytest.raises(ConfigurationMissing, match="https"):
        SessionTokens(SETTINGS, tuple, Jwks(url)).check(RSA.token(), NOW)


def test_an_address_with_https_is_asked() -> None:
    """Also one that is not this machine's; nothing listens at this one."""
    with pytest.raises(IdentityProviderUnavailable):
        SessionTokens(SETTINGS, tuple, Jwks("https://127.0.0.2:1/")).check(RSA.token(), NOW)


# --- the deployment's settings ----------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The least that a function has, in a process that has read none of it."""
    monkeypatch.setenv("TABLE_NAME", "billing")
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://app.example.com")
    app.reset()
    yield monkeypatch
    app.reset()


class SecretsManager:
    """Secrets Manager with one secret, and how often it was asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.calls: list[str] = []

    def get_secret_value(self, **request: Any) -> dict[str, str]:
        self.calls.append(request["SecretId"])
        return {"SecretString": self.text}


def test_without_an_issuer_no_session_token_counts(environment: pytest.MonkeyPatch) -> None:
    """Whatever else is configured, and as every other credential that does not count."""
    environment.setenv("SESSION_JWKS_URL", "https://login.example.com/jwks.json")
    environment.setenv("SESSION_ISSUER", "")
    assert app.session_tokens is None
    with pytest.raises(Unauthenticated):
        Authenticator(cast(Repository, None), app.session_tokens).authenticate(f"Bearer {token()}", NOW)


def test_every_parameter_counts(environment: pytest.MonkeyPatch) -> None:
    """Each of the template's variables reaches the setting it is for, and the whole takes a token."""
    stored = SecretsManager(json.dumps({"shared_secrets": [SECRET, OLD_SECRET]}))
    environment.setattr(aws, "client", lambda _service: stored)
    for name, value in {
        "SESSION_ISSUER": "https://login.example.com",
        "SESSION_AUDIENCE": "billing",
        "SESSION_JWKS_URL": "",
        "SESSION_ACCOUNT_CLAIM": "org.id",
        "SESSION_ROLE_CLAIM": "role",
        "PAYING_ROLES": "owner, billing,",
        "SESSION_SECRET_ID": "arn:session",
    }.items():
        environment.setenv(name, value)
    assert app.settings.session == SETTINGS
    authenticator = Authenticator(cast(Repository, None), app.session_tokens)
    assert [authenticator.authenticate(f"Bearer {token()}", NOW) for _ in range(3)] == [ACME] * 3
    assert stored.calls == ["arn:session"]


def test_the_defaults(environment: pytest.MonkeyPatch) -> None:
    """An issuer alone: any audience, the claim account_id, everyone may pay; nothing to check a signature with."""
    environment.setenv("SESSION_ISSUER", "https://login.example.com")
    expected = SessionSettings("https://login.example.com", None, None, "", "account_id", None, frozenset())
    assert app.settings.session == expected
    assert app.session_tokens
    assert tuple(app.session_tokens.shared_secrets()) == ()


@pytest.mark.parametrize("value", [None, {"shared_secrets": SECRET}, {"shared_secrets": None}, {"shared_secrets": [5]}])
def test_what_is_stored_by_hand_is_told(value: dict[str, object] | None) -> None:
    """Something else than a list of secrets is refused, and shown to nobody."""
    with pytest.raises(ConfigurationMissing, match="shared_secrets"):
        read_session_secrets(value)


def test_a_secret_that_can_be_guessed_is_no_secret() -> None:
    """HS256 takes 32 bytes at least (RFC 7518, 3.2); what is stored so far is not told."""
    with pytest.raises(ConfigurationMissing, match="32 bytes") as missing:
        read_session_secrets({"shared_secrets": [SECRET, "guess-me"]})
    assert "guess-me" not in str(missing.value)
    assert read_session_secrets({}) == ()


WHAT_A_CHECK_IMPORTS = """
import json, sys
from datetime import UTC, datetime
from billing.api.session_tokens import LENGTH_MAX, SessionTokens
from billing.settings import SessionSettings
settings = SessionSettings("https://login.example.com", "billing", None, "", "org.id", "role", frozenset({"owner"}))
tokens = SessionTokens(settings, lambda: ("s" * 32,), None)
print(tokens.check(sys.argv[1], datetime.fromtimestamp(int(sys.argv[2]), UTC)).account_id)
print(json.dumps(sorted(sys.modules)))
"""


def test_a_shared_secrets_check_imports_nothing_heavy() -> None:
    """HS256 needs the standard library alone: cryptography would be a fifth of a cold start."""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", WHAT_A_CHECK_IMPORTS, token(), str(SECONDS)],
        env={"PYTHONPATH": str(ROOT / "layers/billing")},
        capture_output=True,
        text=True,
        check=True,
    )
    account_id, modules = done.stdout.splitlines()
    assert account_id == "acme"
    assert not {"cryptography", "jwt", "pydantic", "boto3", "stripe"} & set(json.loads(modules))
