"""Session tokens with RS256 and ES256 signatures, verified with the identity provider's published keys."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from billing.api.jwks import KEY_TYPES, Jwks
from billing.api.session_tokens import JWKS_ALGORITHMS, SessionTokens
from billing.domain.errors import ConfigurationMissing, IdentityProviderUnavailable, Unauthenticated
from tests.api.tokens import (
    ACME,
    CLAIMS,
    NOW,
    SECONDS,
    SECRET,
    SETTINGS,
    JsonObject,
    Signer,
    ec_signer,
    encode,
    hs256,
    rsa_signer,
    sign_token,
    without_claim,
)
from tests.wire import Answer, Wire

RSA, EC, NEXT = rsa_signer("rsa"), ec_signer("ec"), rsa_signer("next")


def jwk_set(*keys: object) -> Answer:
    """Return a response with a key set."""
    return Answer(body=json.dumps({"keys": keys}).encode())


@pytest.fixture
def provider(wire: Wire) -> Wire:
    """The identity provider, with two published keys."""
    wire.answer(jwk_set(RSA.jwk, EC.jwk))
    return wire


@pytest.fixture
def tokens(provider: Wire) -> SessionTokens:
    """Checker of the identity provider's tokens, without a shared secret."""
    return SessionTokens(SETTINGS, tuple, Jwks(f"{provider.url}/.well-known/jwks.json").verify)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock in seconds, starting at 0."""
    clock = [0.0]
    monkeypatch.setattr("billing.api.jwks.time.monotonic", lambda: clock[0])
    return clock


def is_rejected(tokens: SessionTokens, text: str) -> bool:
    """Return True if the token is rejected."""
    try:
        tokens.check(text, NOW)
    except Unauthenticated:
        return True
    return False


@pytest.mark.parametrize("signer", [RSA, EC], ids=lambda signer: signer.alg)
def test_token_signed_with_a_published_key_is_accepted(tokens: SessionTokens, provider: Wire, signer: Signer) -> None:
    """The keys are fetched once for all tokens."""
    assert [tokens.check(signer.token(), NOW) for _ in range(3)] == [ACME] * 3
    assert (provider.only.method, provider.only.path) == ("GET", "/.well-known/jwks.json")


@pytest.mark.parametrize(
    "claims", [{**CLAIMS, "iss": "https://evil.example"}, {**CLAIMS, "exp": SECONDS - 60}, without_claim("sub")]
)
def test_token_with_a_valid_signature_and_an_invalid_claim_is_rejected(
    tokens: SessionTokens, claims: JsonObject
) -> None:
    assert is_rejected(tokens, RSA.token(claims))


def test_public_key_is_not_accepted_as_shared_secret(tokens: SessionTokens) -> None:
    """Algorithm confusion: an HS256 signature with the published key as the secret."""
    both = replace(tokens, shared_secrets=lambda: (SECRET,))
    modulus = base64.urlsafe_b64decode(RSA.jwk["n"] + "==")
    for secret in (RSA.public_pem, json.dumps(RSA.jwk).encode(), RSA.jwk["n"].encode(), modulus):
        for checker in (tokens, both):
            assert is_rejected(checker, sign_token(sign=hs256(secret), kid="rsa"))


@pytest.mark.parametrize(
    "kid",
    [
        *(None, 1, True, [], ["rsa"], {"rsa": 1}, "", "x" * 256, "RSA", "rsa ", "rsa\x00", "é", "keys", "n"),
        *("../../etc/passwd", "https://evil.example/jwks.json"),
    ],
)
def test_unknown_key_id_is_rejected_and_never_used_as_url_or_path(
    tokens: SessionTokens, provider: Wire, kid: object
) -> None:
    assert is_rejected(tokens, RSA.token(kid=kid))
    assert all(request.path == "/.well-known/jwks.json" for request in provider.requests)


@pytest.mark.parametrize(("published", "kid"), [("None", None), ("5", 5), ("x" * 256, "x" * 256), ("", ""), ("é", "é")])
def test_key_id_that_is_not_a_short_printable_string_is_rejected(
    tokens: SessionTokens, provider: Wire, published: str, kid: object
) -> None:
    """Also if the key set has a key with that id."""
    provider.answer(jwk_set({**RSA.jwk, "kid": published}))
    assert is_rejected(tokens, RSA.token(kid=kid))
    assert provider.requests == []


def test_token_without_key_id_is_rejected(tokens: SessionTokens) -> None:
    assert is_rejected(tokens, sign_token(sign=RSA.sign, alg="RS256"))


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
def test_token_signed_with_another_key_or_algorithm_is_rejected(
    tokens: SessionTokens, signer: Signer, header: dict[str, Any]
) -> None:
    assert is_rejected(tokens, signer.token(**header))


@pytest.mark.parametrize("name", ["jku", "x5u"])
def test_url_in_a_token_header_is_never_requested(tokens: SessionTokens, provider: Wire, name: str) -> None:
    header: dict[str, Any] = {"kid": "stranger", name: f"{provider.url}/evil"}
    assert is_rejected(tokens, STRANGER.token(**header))
    assert {request.path for request in provider.requests} == {"/.well-known/jwks.json"}


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "enc"},
        {"use": None},
        {"key_ops": ["encrypt"]},
        {"key_ops": ["sign"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"key_ops": None},
        {"key_ops": ["verify"], "use": "enc"},
        {"alg": "RS512"},
        {"kty": "EC"},
        {"kty": "oct", "k": encode(SECRET.encode())},
        {"kty": None},
        {"n": "AQAB"},
        {"n": 5},
        {"n": ""},
        {"e": None},
    ],
)
def test_published_key_for_another_purpose_or_malformed_is_not_used(
    tokens: SessionTokens, provider: Wire, changed: JsonObject
) -> None:
    provider.answer(jwk_set({**RSA.jwk, **changed}))
    assert is_rejected(tokens, RSA.token())


@pytest.mark.parametrize(
    "signer", [rsa_signer("weak", 1024), ec_signer("long", ec.SECP384R1)], ids=lambda each: each.kid
)
def test_published_key_that_is_too_weak_or_on_another_curve_is_not_used(
    tokens: SessionTokens, provider: Wire, signer: Signer
) -> None:
    """RSA needs 2,048 bits (RFC 7518, section 3.3), ES256 the curve P-256."""
    provider.answer(jwk_set(signer.jwk))
    assert is_rejected(tokens, signer.token())


def test_published_key_without_alg_and_use_is_accepted(tokens: SessionTokens, provider: Wire) -> None:
    """Both are optional (RFC 7517, section 4). Malformed entries and private members of the set are ignored."""
    bare = {name: RSA.jwk[name] for name in ("kty", "n", "e", "kid")}
    provider.answer(jwk_set(5, "kid", {"kty": "oct"}, {"kid": ["rsa"]}, bare | {"d": "AQAB"}))
    assert tokens.check(RSA.token(), NOW) == ACME


def test_published_key_with_the_operation_verify_is_accepted(tokens: SessionTokens, provider: Wire) -> None:
    provider.answer(jwk_set({**RSA.jwk, "key_ops": ["verify"]}))
    assert tokens.check(RSA.token(), NOW) == ACME


# --- Rotation and outages ---------------------------------------------------------------------------------------------


def test_new_key_is_fetched_when_a_token_names_it(tokens: SessionTokens, provider: Wire, clock: list[float]) -> None:
    tokens.check(RSA.token(), NOW)
    provider.answer(jwk_set(NEXT.jwk, RSA.jwk))
    clock[0] = 31.0
    assert tokens.check(NEXT.token(), NOW) == ACME
    assert tokens.check(RSA.token(), NOW) == ACME
    assert len(provider.requests) == 1


def test_removed_key_is_rejected_after_ten_minutes(tokens: SessionTokens, provider: Wire, clock: list[float]) -> None:
    tokens.check(RSA.token(), NOW)
    provider.answer(jwk_set(NEXT.jwk))
    clock[0] = 599.0
    assert tokens.check(RSA.token(), NOW) == ACME
    clock[0] = 600.0
    assert is_rejected(tokens, RSA.token())


def test_unknown_key_ids_cause_one_request_in_30_seconds(
    tokens: SessionTokens, provider: Wire, clock: list[float]
) -> None:
    for second in range(60):
        clock[0] = float(second)
        assert all(is_rejected(tokens, RSA.token(kid=f"{second}-{number}")) for number in range(3))
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


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_stored_keys_are_accepted_for_24_hours_of_an_outage(
    tokens: SessionTokens, provider: Wire, clock: list[float], broken: Answer
) -> None:
    """They are requested every 30 seconds. After 24 hours no token can be checked."""
    tokens.check(RSA.token(), NOW)
    provider.answer(broken)
    clock[0] = 24 * 3600 - 100.0
    for _ in range(60):
        clock[0] += 1.0
        assert tokens.check(RSA.token(), NOW) == ACME
    assert len(provider.requests) == 2
    clock[0] = 24 * 3600.0
    with pytest.raises(IdentityProviderUnavailable):
        tokens.check(RSA.token(), NOW)
    provider.answer(jwk_set(RSA.jwk))
    clock[0] += 30.0
    assert tokens.check(RSA.token(), NOW) == ACME


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_token_is_unavailable_not_rejected_until_keys_are_fetched(
    tokens: SessionTokens, provider: Wire, clock: list[float], broken: Answer
) -> None:
    """The keys are requested again after five seconds."""
    provider.answer(broken)
    for _ in range(3):
        with pytest.raises(IdentityProviderUnavailable) as unavailable:
            tokens.check(RSA.token(), NOW)
        assert unavailable.value.retry_after_seconds == 5
    assert len(provider.requests) == 1
    provider.answer(jwk_set(RSA.jwk))
    clock[0] = 5.0
    assert tokens.check(RSA.token(), NOW) == ACME


def test_request_to_a_silent_provider_times_out_after_two_seconds(tokens: SessionTokens, provider: Wire) -> None:
    """The test's server is silent for three seconds, then closes the connection."""
    provider.answer(Answer(silent=True))
    began = datetime.now(UTC)
    with pytest.raises(IdentityProviderUnavailable):
        tokens.check(RSA.token(), NOW)
    assert datetime.now(UTC) - began < timedelta(seconds=2.9)


def test_outage_log_has_the_reason_but_nothing_of_the_token(
    tokens: SessionTokens, provider: Wire, printed: Callable[[], str]
) -> None:
    provider.answer(Answer(status=503))
    text = RSA.token()
    with pytest.raises(IdentityProviderUnavailable) as unavailable:
        tokens.check(text, NOW)
    log = printed()
    assert "status 503" in log
    for part in (*text.split("."), "user_1", "acme"):
        assert part not in log + str(unavailable.value)


@pytest.mark.parametrize(
    "url", ["http://login.example.com/jwks.json", "ftp://localhost.example/", "file:///etc/passwd"]
)
def test_jwks_url_without_https_is_rejected_except_on_loopback(url: str) -> None:
    with pytest.raises(ConfigurationMissing, match="https"):
        SessionTokens(SETTINGS, tuple, Jwks(url).verify).check(RSA.token(), NOW)


def test_jwks_url_with_https_is_requested() -> None:
    """Nothing listens at this address."""
    with pytest.raises(IdentityProviderUnavailable):
        SessionTokens(SETTINGS, tuple, Jwks("https://127.0.0.2:1/").verify).check(RSA.token(), NOW)


def test_key_types_are_known_for_every_jwks_algorithm() -> None:
    assert KEY_TYPES.keys() == JWKS_ALGORITHMS
