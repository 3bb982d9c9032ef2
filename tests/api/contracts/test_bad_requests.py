"""One table of bad requests for all five contracts: each is refused in the contract's own words, whole bodies.

Every kind is sent to the portal route, which all five have, or to a path beside it.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest

from billing.adapters.repository import KeyRecord
from billing.api.authentication import KeyKind, digest_of, new_key
from tests.api.contracts.test_documents import PORTAL, REFERENCE, timeless
from tests.functions.support import FunctionHarness as Deployment
from tests.functions.support import Response as Answer

pytestmark = pytest.mark.engine

ISSUER = "https://id.example.com"
SHARED_SECRET = "a secret of thirty-two bytes or more"
ORIGINS = "must be on an allowed origin: http://localhost:3000, https://app.example.com"
VISIBLE = "must be a URL of at most 2048 visible ASCII characters"
NOTHING: Mapping[str, Any] = MappingProxyType({})
KEY_FORM = "must be 1 to 255 visible ASCII characters"

# What the documents call each case: the status, the code, and words of their own where they have some.
type Told = tuple[int, str, str | None]
CASES: Mapping[str, Mapping[str, Told]] = {
    "account": {
        "invalid": (400, "VALIDATION_FAILED", None),
        "unauthenticated": (401, "UNAUTHORIZED", None),
        "forbidden": (403, "FORBIDDEN", None),
        "kind": (403, "FORBIDDEN", None),
        "unknown": (404, "NOT_FOUND", None),
        "method": (405, "VALIDATION_FAILED", None),
        "key": (400, "INVALID_IDEMPOTENCY_KEY", None),
    },
    "teams": {
        "invalid": (400, "invalid_request", None),
        "unauthenticated": (401, "authentication_required", "Invalid or expired API key"),
        "forbidden": (403, "insufficient_permissions", None),
        "kind": (403, "insufficient_permissions", "Secret key required for this endpoint"),
        "unknown": (404, "resource_not_found", None),
        "method": (405, "method_not_allowed", None),
        "key": (400, "INVALID_IDEMPOTENCY_KEY", None),
    },
    "organization": {
        "invalid": (400, "BAD_REQUEST", None),
        "unauthenticated": (401, "UNAUTHORIZED", "Authentication required"),
        "forbidden": (403, "FORBIDDEN", None),
        "kind": (403, "FORBIDDEN", None),
        "unknown": (404, "NOT_FOUND", None),
        "method": (405, "METHOD_NOT_ALLOWED", None),
        "key": (400, "INVALID_IDEMPOTENCY_KEY", None),
    },
    "subscription": {
        "invalid": (400, "invalid_request", None),
        "unauthenticated": (401, "unauthorized", None),
        "forbidden": (403, "forbidden", None),
        "kind": (403, "forbidden", None),
        "unknown": (404, "not_found", None),
        "method": (405, "invalid_request", None),
        "key": (400, "INVALID_IDEMPOTENCY_KEY", None),
    },
    "portal": {
        "invalid": (400, "VALIDATION_FAILED", None),
        "unauthenticated": (401, "UNAUTHORIZED", "Invalid or expired token"),
        "forbidden": (403, "FORBIDDEN", None),
        "kind": (403, "FORBIDDEN", None),
        "unknown": (404, "NOT_FOUND", None),
        "method": (405, "VALIDATION_FAILED", None),
        "key": (400, "INVALID_IDEMPOTENCY_KEY", None),
    },
}
TEAMS_TYPE = {
    "invalid": "invalid_request_error",
    "unauthenticated": "authentication_error",
    "forbidden": "authorization_error",
    "kind": "authorization_error",
    "unknown": "invalid_request_error",
    "method": "invalid_request_error",
    "key": "invalid_request_error",
}
RETURN_URL = {"account": "return_url", "teams": "returnUrl", "organization": "returnUrl", "subscription": "returnUrl"}

type Details = list[dict[str, str]]


def expected_body(contract: str, case: str, words: str, details: Details | None) -> tuple[int, Any]:
    """The status and the whole body that a contract's document has for a case."""
    status, code, own_words = CASES[contract][case]
    error: dict[str, Any] = {"code": code, "message": own_words or words}
    if details is not None:
        error["details"] = details
    if contract == "organization":
        return status, {"success": False, "data": None, "error": error}
    if contract == "portal":
        return status, {"error": error | {"docUrl": f"https://orbitkit.io/api/errors/#{code.lower()}"}}
    if contract == "teams":
        anchor = "authentication" if status in {401, 403} else "errors"
        more = {"type": TEAMS_TYPE[case], "doc_url": f"{REFERENCE}#{anchor}", "request_id": "request-1"}
        return status, {"success": False, "error": error | more, "meta": {"timestamp": "TIME"}}
    return status, {"error": error}


@dataclass(frozen=True)
class Bad:
    """A kind of bad request: what it changes of a good one, and what is told.

    `fields` are the body with RETURN_URL standing for the contract's own name of that field; `problems` likewise.
    """

    case: str
    words: str = ""
    problems: tuple[tuple[str, str], ...] = ()
    authorization: Callable[["Callers"], str | None] = field(default=lambda callers: f"Bearer {callers.key}")
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] | None = None
    body: str | None = None
    is_base64: bool = False
    method: str = "POST"
    beside: str = ""
    team: str = "acme"
    only_teams: bool = False
    case_in_teams: str | None = None


@dataclass(frozen=True)
class Callers:
    """Credentials of several kinds for acme, most of them no good."""

    key: str
    revoked: str
    publishable: str


def token(
    claims: Mapping[str, Any] = NOTHING, *, header: Mapping[str, Any] = NOTHING, secret: str = SHARED_SECRET
) -> str:
    """A session token that counts, but for what is changed; a claim of None is left out."""
    good = {"iss": ISSUER, "aud": "billing", "sub": "user_1", "account_id": "acme", "role": "owner"}
    merged = {**good, "exp": int(time.time()) + 600, **claims}
    parts = [{"alg": "HS256", **header}, {name: value for name, value in merged.items() if value is not None}]
    message = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{message}.{encoded(hmac.digest(secret.encode(), message.encode(), hashlib.sha256))}"


def encoded(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def bearer(credential: str) -> Callable[[Callers], str]:
    """That credential, whoever asks."""
    return lambda _: f"Bearer {credential}"


NO_CREDENTIAL = "Missing, invalid or expired credential"


def nobody(authorization: Callable[[Callers], str | None]) -> Bad:
    """A credential that does not count: which way is never told."""
    return Bad("unauthenticated", NO_CREDENTIAL, authorization=authorization)


def body(words: str, **request: Any) -> Bad:
    """A body that cannot be read as a whole."""
    return Bad("invalid", words, (("", words),), **request)


def field_problem(name: str, problem: str, **request: Any) -> Bad:
    """One field that is wrong."""
    return Bad("invalid", problems=((name, problem),), **request)


def url(value: object, problem: str) -> Bad:
    """A return URL that is wrong."""
    return field_problem("RETURN_URL", problem, fields={"RETURN_URL": value})


UNSIGNED = f"{encoded(b'{"alg":"none"}')}.{encoded(b'{}')}."
BAD: Mapping[str, Bad] = {
    # --- no credential that counts
    "no Authorization": nobody(lambda _: None),
    "empty Authorization": nobody(lambda _: ""),
    "no scheme": nobody(lambda callers: callers.key),
    "Basic": nobody(lambda callers: f"Basic {callers.key}"),
    "two credentials": nobody(lambda callers: f"Bearer {callers.key} {callers.key}"),
    "unknown key": nobody(bearer("sk_test_" + "a" * 32)),
    "key of the other mode": nobody(lambda callers: f"Bearer {callers.key.replace('_test_', '_live_')}"),
    "key cut short": nobody(lambda callers: f"Bearer {callers.key[:-1]}"),
    "key with more": nobody(lambda callers: f"Bearer {callers.key}a"),
    "revoked key": nobody(lambda callers: f"Bearer {callers.revoked}"),
    "secret key as publishable": nobody(lambda callers: f"Bearer {callers.key.replace('sk_', 'pk_')}"),
    "no JWT": nobody(bearer("a.b.c")),
    "unsigned token": nobody(bearer(UNSIGNED)),
    "token of another secret": nobody(lambda _: f"Bearer {token(secret='x' * 40)}"),
    "token of another algorithm": nobody(lambda _: f"Bearer {token(header={'alg': 'RS256', 'kid': '1'})}"),
    "expired token": nobody(lambda _: f"Bearer {token({'exp': int(time.time()) - 60})}"),
    "token without an end": nobody(lambda _: f"Bearer {token({'exp': None})}"),
    "token not yet valid": nobody(lambda _: f"Bearer {token({'nbf': int(time.time()) + 600})}"),
    "token of another issuer": nobody(lambda _: f"Bearer {token({'iss': 'https://evil.example'})}"),
    "token for another audience": nobody(lambda _: f"Bearer {token({'aud': 'shop'})}"),
    "token without a user": nobody(lambda _: f"Bearer {token({'sub': None})}"),
    "token without an account": nobody(lambda _: f"Bearer {token({'account_id': None})}"),
    "token with an account that is none": nobody(lambda _: f"Bearer {token({'account_id': 'a#b'})}"),
    "token with an account of another type": nobody(lambda _: f"Bearer {token({'account_id': ['acme']})}"),
    "huge token": nobody(bearer("a" * 20_000)),
    # --- a credential for something else
    "publishable key": Bad(
        "kind",
        "This kind of credential is not accepted here",
        authorization=lambda callers: f"Bearer {callers.publishable}",
    ),
    "role that may not pay": Bad(
        "forbidden",
        "The user's role does not allow this",
        authorization=lambda _: f"Bearer {token({'role': 'member'})}",
        case_in_teams="kind",  # which takes no tokens at all
    ),
    "another team": Bad(
        "forbidden", "The credential does not give access to this account", team="globex", only_teams=True
    ),
    # --- idempotency keys
    "empty idempotency key": Bad("key", problems=(("Idempotency-Key", KEY_FORM),), headers={"Idempotency-Key": ""}),
    "long idempotency key": Bad(
        "key", problems=(("Idempotency-Key", KEY_FORM),), headers={"Idempotency-Key": "k" * 256}
    ),
    "idempotency key with a space": Bad(
        "key", problems=(("Idempotency-Key", KEY_FORM),), headers={"Idempotency-Key": "a b"}
    ),
    # --- bodies
    "no JSON": body("The body is not valid JSON: Expecting value at line 1, column 1", body="url=x"),
    "cut JSON": body(
        "The body is not valid JSON: Expecting property name enclosed in double quotes at line 1, column 2", body="{"
    ),
    "more than JSON": body("The body is not valid JSON: Extra data at line 1, column 3", body="{}{}"),
    "NaN": body("The body is not valid JSON in UTF-8", body='{"a": NaN}'),
    "no UTF-8": body(
        "The body is not valid JSON in UTF-8", body=base64.b64encode(b'{"a": "\xff"}').decode(), is_base64=True
    ),
    "no base64": body("The body is not valid base64", body="*", is_base64=True),
    "nested too deep": body("The body is not valid JSON in UTF-8", body="[" * 100_000),
    "list": body("The body must be a JSON object", body="[]"),
    "null": body("The body must be a JSON object", body="null"),
    "number": body("The body must be a JSON object", body="1"),
    "over 256 KB": body("The body has more than 262144 bytes", body=json.dumps({"a": "a" * 262_144})),
    "form": body(
        "The Content-Type header must be application/json",
        body="{}",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "no content type": body(
        "The Content-Type header must be application/json", body="{}", headers={"Content-Type": ""}
    ),
    "unknown field": field_problem("coupon", "is not a known field", fields={"coupon": "x"}),
    "field of another account": field_problem("customer", "is not a known field", fields={"customer": "cus_1"}),
    "return URL on another origin": url("https://evil.example/", ORIGINS),
    "return URL without a scheme": url("//evil.example/", ORIGINS),
    "return URL of a script": url("javascript:alert(1)", ORIGINS),
    "return URL with a user": url("http://localhost:3000@evil.example/", ORIGINS),
    "return URL with a line break": url("/a\nb", VISIBLE),
    "return URL is a number": url(1, "Input should be a valid string"),
    "return URL is a list": url(["/"], "Input should be a valid string"),
    "return URL is empty": url("", "String should have at least 1 character"),
    # --- paths and methods
    "unknown path": Bad("unknown", beside="/nothing"),
    "path with a slash more": Bad("unknown", beside="/"),
    "PUT": Bad("method", method="PUT"),
    "DELETE": Bad("method", method="DELETE"),
    "PATCH": Bad("method", method="PATCH"),
}


@pytest.fixture
def callers(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, stripe_secret_id: Callable[[dict[str, Any]], str]
) -> Callers:
    """A deployment that takes session tokens too, from users of whom only owners may pay."""
    environment = {
        "SESSION_ISSUER": ISSUER,
        "SESSION_AUDIENCE": "billing",
        "SESSION_ACCOUNT_CLAIM": "account_id",
        "SESSION_ROLE_CLAIM": "role",
        "PAYING_ROLES": "owner",
        "SESSION_SECRET_ID": stripe_secret_id({"shared_secrets": [SHARED_SECRET]}),
        "RATE_LIMIT_PER_MINUTE": "1000",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    revoked, publishable = (new_key(kind, livemode=False) for kind in (KeyKind.SECRET, KeyKind.PUBLISHABLE))
    now = datetime.now(UTC)
    deployment.repository.create_key(digest_of(revoked), KeyRecord("key_2", "acme", "secret", now, "aaaa", revoked=now))
    deployment.repository.create_key(digest_of(publishable), KeyRecord("key_3", "acme", "publishable", now, "bbbb"))
    return Callers(deployment.key, revoked, publishable)


def send(deployment: Deployment, callers: Callers, contract: str, bad: Bad) -> Answer:
    """The bad request, to a contract's portal route or beside it."""
    template, _ = PORTAL[contract]
    fields = None if bad.fields is None else {name_in(contract, name): value for name, value in bad.fields.items()}
    authorization = bad.authorization(callers)
    headers = {"Content-Type": "application/json", **bad.headers}
    is_served = bad.case not in {"unknown", "method"}
    return deployment.call(
        bad.method,
        template.format(teamId=bad.team) + bad.beside,
        route=f"POST {template}" if is_served else "$default",
        headers=headers if authorization is None else headers | {"Authorization": authorization},
        body=bad.body if fields is None else json.dumps(fields),
        is_base64=bad.is_base64,
        parameters={"teamId": bad.team},
    )


def name_in(contract: str, name: str) -> str:
    """A field's name in a contract; the portal contract has none and so knows none."""
    return RETURN_URL.get(contract, "returnUrl") if name == "RETURN_URL" else name


def told(contract: str, bad: Bad) -> tuple[int, Any]:
    """What the contract answers."""
    path = PORTAL[contract][0].format(teamId=bad.team) + bad.beside
    if bad.case == "unknown":
        return expected_body(contract, "unknown", f"There is nothing at {path}", None)
    if bad.case == "method":
        return expected_body(contract, "method", f"{bad.method} is not allowed here; allowed: POST", None)
    if contract == "teams" and bad.case_in_teams:
        return expected_body(contract, bad.case_in_teams, "", None)
    if not bad.problems:
        return expected_body(contract, bad.case, bad.words, None)
    problems = [(name_in(contract, name), problem) for name, problem in bad.problems]
    if contract == "portal":
        problems = [(name, "is not a known field" if name == "returnUrl" else problem) for name, problem in problems]
    words = "; ".join(f"{name}: {problem}" if name else problem for name, problem in problems)
    return expected_body(contract, bad.case, words, [{"path": name, "message": each} for name, each in problems])


@pytest.mark.parametrize("contract", CASES)
def test_every_bad_request_is_told_in_the_contracts_words(
    deployment: Deployment, callers: Callers, contract: str, subtests: pytest.Subtests
) -> None:
    """Status and whole body, with the path of each problem."""
    for kind, bad in BAD.items():
        if bad.only_teams and contract != "teams":
            continue
        with subtests.test(kind):
            answer = send(deployment, callers, contract, bad)
            assert (answer.status, timeless(answer.body)) == told(contract, bad)


def test_the_table_is_long_enough() -> None:
    """At least forty kinds in each contract."""
    assert sum(not bad.only_teams for bad in BAD.values()) >= 40
