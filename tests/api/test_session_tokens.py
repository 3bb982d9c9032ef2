"""Session tokens with HS256 signatures: valid tokens are accepted, all others rejected without another error."""

import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.api.jwks import Jwks
from billing.api.session_tokens import LENGTH_MAX, SessionTokens
from billing.domain.errors import IdentityProviderUnavailable, Unauthenticated
from tests.api.tokens import (
    ACME,
    CLAIMS,
    NOW,
    OLD_SECRET,
    SECONDS,
    SECRET,
    SETTINGS,
    JsonObject,
    assemble,
    encode,
    hs256,
    sign_token,
    without_claim,
)


@pytest.fixture
def tokens() -> SessionTokens:
    """Checker with the shared secret and its predecessor."""
    return SessionTokens(SETTINGS, lambda: (SECRET, OLD_SECRET), None)


# --- Accepted tokens --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_token_signed_with_either_secret_is_the_users_credential(tokens: SessionTokens, secret: str) -> None:
    """Two secrets are accepted during a rotation."""
    assert tokens.check(sign_token(sign=hs256(secret)), NOW) == ACME


@pytest.mark.parametrize(
    "header", [{"typ": "JWT"}, {"typ": "at+jwt"}, {"kid": "any"}, {"jku": "https://evil.example"}, {"jwk": {"k": "x"}}]
)
def test_token_with_other_header_parameters_is_accepted(tokens: SessionTokens, header: dict[str, Any]) -> None:
    """Keys and URLs in a header are neither used nor fetched."""
    assert tokens.check(sign_token(**header), NOW) == ACME


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
def test_token_with_unusual_but_valid_claims_is_accepted(tokens: SessionTokens, changed: JsonObject) -> None:
    assert tokens.check(sign_token({**CLAIMS, **changed}), NOW) == ACME


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_token_without_iat_or_nbf_is_accepted(tokens: SessionTokens, name: str) -> None:
    assert tokens.check(sign_token(without_claim(name)), NOW) == ACME


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
def test_account_claim_is_an_exact_name_or_else_a_dotted_path(name: str, claims: JsonObject) -> None:
    tokens = SessionTokens(replace(SETTINGS, account_claim=name), lambda: (SECRET,), None)
    claims = {**CLAIMS, **claims, "sub": "acme"}
    assert tokens.check(sign_token(claims), NOW).account_id == "acme"


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
def test_billing_access_depends_on_the_role_claim(
    role_claim: str | None, claims: JsonObject, *, can_manage_billing: bool
) -> None:
    """Without a configured role claim every user has access."""
    tokens = SessionTokens(replace(SETTINGS, role_claim=role_claim), lambda: (SECRET,), None)
    assert tokens.check(sign_token({**CLAIMS, **claims}), NOW) == replace(ACME, can_manage_billing=can_manage_billing)


def test_token_without_aud_is_accepted_if_no_audience_is_configured(tokens: SessionTokens) -> None:
    """Tokens of Clerk have no aud."""
    tokens = replace(tokens, settings=replace(SETTINGS, audience=None))
    assert tokens.check(sign_token(without_claim("aud")), NOW) == ACME
    assert tokens.check(sign_token(), NOW) == ACME


# --- Rejected tokens --------------------------------------------------------------------------------------------------

HEADER = b'{"alg": "HS256"}'
BODY = json.dumps(CLAIMS).encode()
[_HEADER, _CLAIMS, _SIGNATURE] = sign_token().split(".")

HOSTILE: Mapping[str, str] = {
    "empty": "",
    "dots alone": "..",
    "one part": "token",
    "two parts": f"{_HEADER}.{_CLAIMS}",
    "four parts": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE}.{_SIGNATURE}",
    "five parts, as an encrypted token has": ".".join([_HEADER] * 5),
    "no signature": f"{_HEADER}.{_CLAIMS}.",
    "no claims": f"{_HEADER}..{_SIGNATURE}",
    "another signature": f"{_HEADER}.{_CLAIMS}.{encode(bytes(32))}",
    "a shorter signature": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE[:-4]}",
    "padding": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE}=",
    "standard base64": f"{_HEADER}.{_CLAIMS}.+/{_SIGNATURE[2:]}",
    "a length that base64 cannot have": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE}aa",
    "bits beyond the end": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE[:-1]}{chr(ord(_SIGNATURE[-1]) + 1)}",
    "white space": f"{_HEADER}.{_CLAIMS}.{_SIGNATURE}\n",
    "other digits": f"{_HEADER}.{_CLAIMS}.\u0661{_SIGNATURE}",
    "claims of another token": f"{_HEADER}.{encode(json.dumps({**CLAIMS, 'sub': 'root'}).encode())}.{_SIGNATURE}",
    "no algorithm": assemble(b"{}", BODY),
    "alg none": sign_token(alg="none"),
    "alg none, unsigned": sign_token(alg="none", sign=lambda _message: b""),
    "alg None": sign_token(alg="None"),
    "alg null": sign_token(alg=None),
    "alg a list": sign_token(alg=["HS256"]),
    "alg an object": sign_token(alg={"HS256": 1}),
    "alg in lower case": sign_token(alg="hs256"),
    "HS384": sign_token(alg="HS384", sign=lambda message: hmac.digest(SECRET.encode(), message, "sha384")),
    "RS256 without a JWKS": sign_token(alg="RS256", kid="a"),
    "another secret": sign_token(sign=hs256("x" * 32)),
    "an empty secret": sign_token(sign=hs256("")),
    "an extension that must be understood": sign_token(crit=["b64"], b64=False),
    "an empty crit": sign_token(crit=[]),
    "header a list": assemble(b"[]", BODY),
    "header a text": assemble(b'"HS256"', BODY),
    "header no JSON": assemble(b"alg=HS256", BODY),
    "header twice HS256": assemble(b'{"alg": "HS256", "alg": "HS256"}', BODY),
    "header none, then HS256": assemble(b'{"alg": "none", "alg": "HS256"}', BODY),
    "header in UTF-16": assemble(HEADER.decode().encode("utf-16"), BODY),
    "claims a list": assemble(HEADER, b"[]"),
    "claims null": assemble(HEADER, b"null"),
    "claims another token": assemble(HEADER, sign_token().encode()),
    "claims not UTF-8": assemble(HEADER, b'{"sub": "\xff"}'),
    "claims with a byte order mark": assemble(HEADER, b"\xef\xbb\xbf" + BODY),
    "claims twice the same": assemble(HEADER, BODY[:-1] + b', "sub": "root"}'),
    "claims nested twice the same": assemble(HEADER, BODY[:-1] + b', "x": {"id": "a", "id": "b"}}'),
    "claims with NaN": assemble(HEADER, BODY[:-1] + b', "x": NaN}'),
    "claims with infinity": assemble(HEADER, BODY[:-1] + b', "x": -Infinity}'),
    "claims with a number of 5,000 digits": assemble(HEADER, BODY[:-1] + b', "x": ' + b"9" * 5000 + b"}"),
    "an account nested 500 deep": sign_token({**CLAIMS, "org": json.loads('{"id":' * 500 + "1" + "}" * 500)}),
    "huge": sign_token({**CLAIMS, "x": "x" * LENGTH_MAX}),
    "nested without end": f"{_HEADER}.{encode(b'[' * 50_000)}.{_SIGNATURE}",
}


REJECTION_REASONS = {
    "neither a key nor a session token",
    "malformed session token",
    "session token with an invalid signature",
    "session token with crit",
    "session token with an invalid account claim",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_token_is_rejected(tokens: SessionTokens, hostile: str) -> None:
    """Neither the message nor the logged reason contains any part of the token."""
    with pytest.raises(Unauthenticated) as rejected:
        tokens.check(hostile, NOW)
    assert str(rejected.value) == str(Unauthenticated("whatever it was"))
    assert rejected.value.reason in REJECTION_REASONS
    assert rejected.value.__cause__ is None


OTHERS: Mapping[str, list[Any]] = {
    "iss": [None, 1, [], ["https://login.example.com"], {}, "", "https://login.example.com/", "https://evil.example"],
    "aud": [None, 1, {}, [], "", "other", ["other"], [None], [1, "billing"], ["billing", ["billing"]], {"billing": 1}],
    "sub": [None, 1, True, [], ["user_1"], {}, "", "u" * 256, "tab\t", "é", "\ud800", "nul\x00"],
    "exp": [None, "1795000000", True, [], {}, SECONDS - 30, 0, -1, SECONDS * 1000, 1e300, 10**400],
    "nbf": [None, "1", False, [], {}, SECONDS + 31, 1e300],
    "iat": [None, "1", False, [], {}, SECONDS + 31, 1e300],
    "org": [None, "acme", 1, [], ["id"], {}, {"id": None}, {"id": 1}, {"id": ["acme"]}, {"id": {"id": "acme"}}]
    + [{"id": each} for each in ("", "a b", "a#b", "é", "a" * 256, "a\n", "\ud800")],
    "role": [1, True, {}, {"owner": True}, [None], ["owner", 1], [["owner"]]],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in OTHERS.items() for value in values],
    ids=lambda value: repr(value)[:40],
)
def test_signed_token_with_an_invalid_claim_is_rejected(tokens: SessionTokens, name: str, value: object) -> None:
    with pytest.raises(Unauthenticated):
        tokens.check(sign_token({**CLAIMS, name: value}), NOW)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("number", ["1e999", "-1e999", "9e400", "253402300800", "NaN", "Infinity"])
def test_signed_token_with_a_time_beyond_the_year_9999_is_rejected(
    tokens: SessionTokens, name: str, number: str
) -> None:
    """JSON parsers return infinity for a number that is too large. Such a token would never expire."""
    claims = json.dumps({**CLAIMS, name: "TIME"}).replace('"TIME"', number)
    with pytest.raises(Unauthenticated):
        tokens.check(assemble(HEADER, claims.encode()), NOW)


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp", "org"])
def test_signed_token_without_a_required_claim_is_rejected(tokens: SessionTokens, name: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.check(sign_token(without_claim(name)), NOW)


def test_token_is_accepted_until_30_seconds_after_exp(tokens: SessionTokens) -> None:
    assert tokens.check(sign_token(), NOW + timedelta(seconds=329)) == ACME
    with pytest.raises(Unauthenticated):
        tokens.check(sign_token(), NOW + timedelta(seconds=330))


def test_hs256_token_is_rejected_if_no_shared_secret_is_configured() -> None:
    for secret in ("", SECRET):
        with pytest.raises(Unauthenticated):
            SessionTokens(SETTINGS, tuple, None).check(sign_token(sign=hs256(secret)), NOW)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.text(st.characters(codec=None)) | st.from_regex(r"\A[\w-]*\.[\w-]*\.[\w-]*\Z"))
def test_any_text_is_rejected_with_unauthenticated(text: str) -> None:
    with pytest.raises(Unauthenticated):
        SessionTokens(SETTINGS, lambda: (SECRET,), None).check(text, NOW)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "crit", "typ", "jwk"]), ANYTHING), ANYTHING)
def test_any_signed_header_and_claims_are_rejected_without_another_error(
    header: dict[str, Any], claims: object
) -> None:
    text = assemble(json.dumps(header).encode(), json.dumps(claims).encode())
    with pytest.raises((Unauthenticated, IdentityProviderUnavailable)):
        SessionTokens(SETTINGS, lambda: (SECRET,), Jwks("http://127.0.0.1:1").verify).check(text, NOW)


@given(st.sampled_from(sorted(OTHERS)), ANYTHING)
def test_any_claim_value_is_accepted_or_rejected_without_another_error(name: str, value: object) -> None:
    try:
        SessionTokens(SETTINGS, lambda: (SECRET,), None).check(sign_token({**CLAIMS, name: value}), NOW)
    except Unauthenticated:
        return
