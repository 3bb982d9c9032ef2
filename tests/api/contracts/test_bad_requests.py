"""Bad requests, the same for all five contracts: each is rejected with the whole error body of the contract.

Every request goes to the portal route, which all five contracts have, or to a path beside it. In the native contract,
those that apply also go to every route about webhooks.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest

from billing.adapters.repository import KeyRecord
from billing.api.authentication import KeyKind, digest_of, new_key
from billing.api.contracts.account_api import ACCOUNT
from billing.api.contracts.contract import Route
from tests.api.contracts.examples import PORTAL, REFERENCE, without_timestamp
from tests.api.tokens import encode, hs256, sign_token
from tests.functions.support import FunctionHarness, Response

pytestmark = pytest.mark.engine

ISSUER = "https://id.example.com"
SHARED_SECRET = "a secret of thirty-two bytes or more"
ORIGINS = "must be on an allowed origin: http://localhost:3000, https://app.example.com"
VISIBLE = "must be a URL of at most 2048 visible ASCII characters"
NOTHING: Mapping[str, Any] = MappingProxyType({})
KEY_FORM = "must be 1 to 255 visible ASCII characters"

type Expected = tuple[int, str, str | None]
"""Status, code, and the message if the contract has one of its own."""

CASES: Mapping[str, Mapping[str, Expected]] = {
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
IDS = {"endpointId": "whe_1", "deliveryId": "dlv_1_2"}
RETURN_URL = {"account": "return_url", "teams": "returnUrl", "organization": "returnUrl", "subscription": "returnUrl"}

type Details = list[dict[str, str]]


def expected_body(contract: str, case: str, message: str, details: Details | None) -> tuple[int, Any]:
    """Return the status and body that a contract's document has for a case."""
    status, code, own_message = CASES[contract][case]
    error: dict[str, Any] = {"code": code, "message": own_message or message}
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
class BadRequest:
    """A bad request: its difference from a good one, and the expected error.

    In `fields` and `problems`, RETURN_URL stands for the contract's name of that field.
    """

    case: str
    message: str = ""
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
    """Credentials of acme."""

    key: str
    revoked: str
    publishable: str


def token(
    claims: Mapping[str, Any] = NOTHING, *, header: Mapping[str, Any] = NOTHING, secret: str = SHARED_SECRET
) -> str:
    """Return a session token that is valid except for these changes; a claim of None is left out."""
    valid = {"iss": ISSUER, "aud": "billing", "sub": "user_1", "account_id": "acme", "role": "owner"}
    merged = {**valid, "exp": int(time.time()) + 600, **claims}
    return sign_token({name: value for name, value in merged.items() if value is not None}, hs256(secret), **header)


def bearer(credential: str) -> Callable[[Callers], str]:
    """Return a function that returns this credential for all callers."""
    return lambda _: f"Bearer {credential}"


NO_CREDENTIAL = "Missing, invalid or expired credential"


def unauthenticated(authorization: Callable[[Callers], str | None]) -> BadRequest:
    """Return a request with an invalid credential; the message is the same for every reason."""
    return BadRequest("unauthenticated", NO_CREDENTIAL, authorization=authorization)


def invalid_body(message: str, **request: Any) -> BadRequest:
    """Return a request whose body as a whole is invalid."""
    return BadRequest("invalid", message, (("", message),), **request)


def field_problem(name: str, problem: str, **request: Any) -> BadRequest:
    """Return a request with one invalid field."""
    return BadRequest("invalid", problems=((name, problem),), **request)


def return_url(value: object, problem: str) -> BadRequest:
    """Return a request with an invalid return URL."""
    return field_problem("RETURN_URL", problem, fields={"RETURN_URL": value})


def invalid_key(key: str) -> BadRequest:
    """Return a request with a malformed idempotency key."""
    return BadRequest("key", problems=(("Idempotency-Key", KEY_FORM),), headers={"Idempotency-Key": key})


UNSIGNED = f"{encode(b'{"alg":"none"}')}.{encode(b'{}')}."
BAD: Mapping[str, BadRequest] = {
    # --- Invalid credentials
    "no Authorization": unauthenticated(lambda _: None),
    "empty Authorization": unauthenticated(lambda _: ""),
    "no scheme": unauthenticated(lambda callers: callers.key),
    "Basic": unauthenticated(lambda callers: f"Basic {callers.key}"),
    "two credentials": unauthenticated(lambda callers: f"Bearer {callers.key} {callers.key}"),
    "unknown key": unauthenticated(bearer("sk_test_" + "a" * 32)),
    "key of the other mode": unauthenticated(lambda callers: f"Bearer {callers.key.replace('_test_', '_live_')}"),
    "key cut short": unauthenticated(lambda callers: f"Bearer {callers.key[:-1]}"),
    "key with more": unauthenticated(lambda callers: f"Bearer {callers.key}a"),
    "revoked key": unauthenticated(lambda callers: f"Bearer {callers.revoked}"),
    "secret key as publishable": unauthenticated(lambda callers: f"Bearer {callers.key.replace('sk_', 'pk_')}"),
    "no JWT": unauthenticated(bearer("a.b.c")),
    "unsigned token": unauthenticated(bearer(UNSIGNED)),
    "token of another secret": unauthenticated(lambda _: f"Bearer {token(secret='x' * 40)}"),
    "token of another algorithm": unauthenticated(lambda _: f"Bearer {token(header={'alg': 'RS256', 'kid': '1'})}"),
    "expired token": unauthenticated(lambda _: f"Bearer {token({'exp': int(time.time()) - 60})}"),
    "token without an end": unauthenticated(lambda _: f"Bearer {token({'exp': None})}"),
    "token not yet valid": unauthenticated(lambda _: f"Bearer {token({'nbf': int(time.time()) + 600})}"),
    "token of another issuer": unauthenticated(lambda _: f"Bearer {token({'iss': 'https://evil.example'})}"),
    "token for another audience": unauthenticated(lambda _: f"Bearer {token({'aud': 'shop'})}"),
    "token without a user": unauthenticated(lambda _: f"Bearer {token({'sub': None})}"),
    "token without an account": unauthenticated(lambda _: f"Bearer {token({'account_id': None})}"),
    "token with an account that is none": unauthenticated(lambda _: f"Bearer {token({'account_id': 'a#b'})}"),
    "token with an account of another type": unauthenticated(lambda _: f"Bearer {token({'account_id': ['acme']})}"),
    "huge token": unauthenticated(bearer("a" * 20_000)),
    # --- Valid credentials without access
    "publishable key": BadRequest(
        "kind",
        "This kind of credential is not accepted here",
        authorization=lambda callers: f"Bearer {callers.publishable}",
    ),
    "role that may not pay": BadRequest(
        "forbidden",
        "The user's role does not allow this",
        authorization=lambda _: f"Bearer {token({'role': 'member'})}",
        case_in_teams="kind",  # which takes no tokens at all
    ),
    "another team": BadRequest(
        "forbidden", "The credential does not give access to this account", team="globex", only_teams=True
    ),
    # --- Idempotency keys
    "empty idempotency key": BadRequest(
        "key", problems=(("Idempotency-Key", KEY_FORM),), headers={"Idempotency-Key": ""}
    ),
    "long idempotency key": BadRequest(
        "key", problems=(("Idempotency-Key", KEY_FORM),), headers={"Idempotency-Key": "k" * 256}
    ),
    "idempotency key with a space": BadRequest(
        "key", problems=(("Idempotency-Key", KEY_FORM),), headers={"Idempotency-Key": "a b"}
    ),
    # --- Bodies
    "no JSON": invalid_body("The body is not valid JSON: Expecting value at line 1, column 1", body="url=x"),
    "cut JSON": invalid_body(
        "The body is not valid JSON: Expecting property name enclosed in double quotes at line 1, column 2", body="{"
    ),
    "more than JSON": invalid_body("The body is not valid JSON: Extra data at line 1, column 3", body="{}{}"),
    "NaN": invalid_body("The body is not valid JSON in UTF-8", body='{"a": NaN}'),
    "no UTF-8": invalid_body(
        "The body is not valid JSON in UTF-8", body=base64.b64encode(b'{"a": "\xff"}').decode(), is_base64=True
    ),
    "no base64": invalid_body("The body is not valid base64", body="*", is_base64=True),
    "nested too deep": invalid_body("The body is not valid JSON in UTF-8", body="[" * 100_000),
    "list": invalid_body("The body must be a JSON object", body="[]"),
    "null": invalid_body("The body must be a JSON object", body="null"),
    "number": invalid_body("The body must be a JSON object", body="1"),
    "over 256 KB": invalid_body("The body has more than 262144 bytes", body=json.dumps({"a": "a" * 262_144})),
    "form": invalid_body(
        "The Content-Type header must be application/json",
        body="{}",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "no content type": invalid_body(
        "The Content-Type header must be application/json", body="{}", headers={"Content-Type": ""}
    ),
    "unknown field": field_problem("coupon", "is not a known field", fields={"coupon": "x"}),
    "field of another account": field_problem("customer", "is not a known field", fields={"customer": "cus_1"}),
    "return URL on another origin": return_url("https://evil.example/", ORIGINS),
    "return URL without a scheme": return_url("//evil.example/", ORIGINS),
    "return URL of a script": return_url("javascript:alert(1)", ORIGINS),
    "return URL with a user": return_url("http://localhost:3000@evil.example/", ORIGINS),
    "return URL with a line break": return_url("/a\nb", VISIBLE),
    "return URL is a number": return_url(1, "Input should be a valid string"),
    "return URL is a list": return_url(["/"], "Input should be a valid string"),
    "return URL is empty": return_url("", "String should have at least 1 character"),
    # --- Paths and methods
    "unknown path": BadRequest("unknown", beside="/nothing"),
    "path with a slash more": BadRequest("unknown", beside="/"),
    "PUT": BadRequest("method", method="PUT"),
    "DELETE": BadRequest("method", method="DELETE"),
    "PATCH": BadRequest("method", method="PATCH"),
}


@pytest.fixture
def callers(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch, stripe_secret_id: Callable[[dict[str, Any]], str]
) -> Callers:
    """Credentials for a deployment that accepts session tokens; only owners have a billing role."""
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


def send(
    deployment: FunctionHarness, callers: Callers, contract: str, bad: BadRequest, template: str | None = None
) -> Response:
    """Send a bad request to a path of a contract, by default its portal route, or beside it."""
    template = template or PORTAL[contract][0]
    fields = None if bad.fields is None else {name_in(contract, name): value for name, value in bad.fields.items()}
    authorization = bad.authorization(callers)
    headers = {"Content-Type": "application/json", **bad.headers}
    is_served = bad.case not in {"unknown", "method"}
    return deployment.call(
        bad.method,
        template.format(teamId=bad.team, **IDS) + bad.beside,
        route=f"{bad.method} {template}" if is_served else "$default",
        headers=headers if authorization is None else headers | {"Authorization": authorization},
        body=bad.body if fields is None else json.dumps(fields),
        is_base64=bad.is_base64,
        parameters={"teamId": bad.team, **IDS},
    )


def name_in(contract: str, name: str) -> str:
    """Return a field's name in a contract."""
    return RETURN_URL.get(contract, "returnUrl") if name == "RETURN_URL" else name


def expected(contract: str, bad: BadRequest) -> tuple[int, Any]:
    """Return the expected status and body."""
    path = PORTAL[contract][0].format(teamId=bad.team) + bad.beside
    if bad.case == "unknown":
        return expected_body(contract, "unknown", f"There is nothing at {path}", None)
    if bad.case == "method":
        return expected_body(contract, "method", f"{bad.method} is not allowed here; allowed: POST", None)
    if contract == "teams" and bad.case_in_teams:
        return expected_body(contract, bad.case_in_teams, "", None)
    if not bad.problems:
        return expected_body(contract, bad.case, bad.message, None)
    problems = [(name_in(contract, name), problem) for name, problem in bad.problems]
    if contract == "portal":
        problems = [(name, "is not a known field" if name == "returnUrl" else problem) for name, problem in problems]
    message = "; ".join(f"{name}: {problem}" if name else problem for name, problem in problems)
    return expected_body(contract, bad.case, message, [{"path": name, "message": each} for name, each in problems])


@pytest.mark.parametrize("contract", CASES)
def test_bad_request_returns_the_contracts_error(
    deployment: FunctionHarness, callers: Callers, contract: str, subtests: pytest.Subtests
) -> None:
    for kind, bad in BAD.items():
        if bad.only_teams and contract != "teams":
            continue
        with subtests.test(kind):
            response = send(deployment, callers, contract, bad)
            assert (response.status, without_timestamp(response.body)) == expected(contract, bad)


WEBHOOK_ROUTES = [
    route for route in ACCOUNT.routes.values() if "webhook-endpoints" in route.path or "deliveries" in route.path
]


@pytest.mark.parametrize("route", WEBHOOK_ROUTES, ids=lambda route: route.key)
def test_bad_request_about_webhooks_returns_the_native_error(
    deployment: FunctionHarness, callers: Callers, route: Route, subtests: pytest.Subtests
) -> None:
    """The endpoint and the delivery of the path do not exist. Everything else is checked before them."""
    for kind, bad in BAD.items():
        if not applies_to(route, bad):
            continue
        with subtests.test(kind):
            response = send(deployment, callers, "account", replace(bad, method=route.method), route.path)
            if bad.case == "forbidden":
                message = "This kind of credential is not accepted here"
                assert (response.status, response.body) == expected_body("account", "kind", message, None)
            elif bad.fields is None:
                assert (response.status, response.body) == expected("account", bad)
            else:
                [name] = bad.fields
                unknown = {"path": name_in("account", name), "message": "is not a known field"}
                assert (response.status, response.body["error"]["details"][0]) == (400, unknown)


def applies_to(route: Route, bad: BadRequest) -> bool:
    """Return True if a bad request of the portal route is one of another route, too."""
    if bad.only_teams or bad.case in {"unknown", "method"}:
        return False
    if bad.case == "key":
        return route.method == "POST"
    return bad.case != "invalid" or route.method in {"POST", "PATCH"}


def test_bad_requests_are_at_least_40() -> None:
    assert sum(not bad.only_teams for bad in BAD.values()) >= 40
