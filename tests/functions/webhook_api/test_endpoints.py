"""Webhook endpoints: create, list, get, update and delete them, and rotate their secrets."""

import socket
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.adapters.webhook_repository import WebhookRepository
from billing.domain.webhook_deliveries import EndpointHealth
from tests.functions.support import FunctionHarness, items_with_prefix
from tests.functions.webhook_api.support import (
    ENDPOINTS,
    SECRET,
    TIME,
    URL,
    answer,
    create,
    invalid,
    list_all,
    not_found,
    send,
    without_secrets,
)

pytestmark = pytest.mark.engine

EVENTS = "subscription.created, subscription.updated, subscription.canceled, invoice.paid, invoice.payment_failed"
UNKNOWN_EVENTS = f"must be a list of: *, {EVENTS}"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Addresses by host name. Every other name does not resolve."""
    addresses: dict[str, str] = {}
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host in addresses:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (addresses[host], port))]
        if host[0].isdigit() or host == "localhost":
            return resolve(host, port, *args, **kwargs)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return addresses


# --- Create -----------------------------------------------------------------------------------------------------------


def test_created_endpoint_receives_all_events_by_default(deployment: FunctionHarness) -> None:
    response = deployment.authorized("POST", ENDPOINTS, {"url": URL})
    endpoint_id, created, secret = (response.body[name] for name in ("id", "created", "secret"))
    assert answer(response) == (
        200,
        {
            "id": endpoint_id,
            "url": URL,
            "events": ["*"],
            "description": "",
            "enabled": True,
            "disabled_reason": None,
            "disabled_at": None,
            "created": created,
            "secret": secret,
            "warning": None,
        },
    )
    assert endpoint_id.startswith("whe_")
    assert TIME.fullmatch(created)
    assert SECRET.fullmatch(secret)
    assert len(b64decode(secret.removeprefix("whsec_"))) == 32


def test_created_endpoint_has_the_fields_of_the_request(deployment: FunctionHarness) -> None:
    fields = {"events": ["invoice.paid", "subscription.created", "invoice.paid"], "description": "Zürich\n€"}
    created = create(deployment, "https://93.184.215.14:8443/a?b=%20c", **fields)
    assert (created["url"], created["events"], created["description"]) == (
        "https://93.184.215.14:8443/a?b=%20c",
        ["subscription.created", "invoice.paid"],
        "Zürich\n€",
    )


def test_created_endpoint_with_all_events_and_a_type_receives_all_events(deployment: FunctionHarness) -> None:
    assert create(deployment, events=["invoice.paid", "*"])["events"] == ["*"]


def test_created_endpoints_have_different_ids_and_secrets(deployment: FunctionHarness) -> None:
    first, second = create(deployment), create(deployment)
    assert first["id"] != second["id"]
    assert first["secret"] != second["secret"]


def test_url_whose_name_does_not_resolve_is_accepted_with_a_warning(
    deployment: FunctionHarness, names: dict[str, str]
) -> None:
    created = create(deployment, "https://hooks.example.com/")
    assert created["warning"] == "The host name does not resolve at the moment"
    names["hooks.example.com"] = "93.184.215.14"
    assert create(deployment, "https://hooks.example.com/")["warning"] is None


def test_url_whose_name_has_a_private_address_returns_400(deployment: FunctionHarness, names: dict[str, str]) -> None:
    names["hooks.example.com"] = "10.0.0.7"
    response = deployment.authorized("POST", ENDPOINTS, {"url": "https://hooks.example.com/"})
    assert answer(response) == invalid(("url", "has a private address"))
    assert list_all(deployment) == []


HOSTILE_URLS = {
    "http://example.com/": "must use https",
    "ftp://example.com/": "must use https",
    "example.com/webhooks": "must be absolute, for example https://example.com/webhooks",
    "https://": "has no host",
    "https://example.com/a b": "contains a character that has to be percent-encoded",
    "https://example.com/\r\nX-Injected: 1": "contains a character that has to be percent-encoded",
    "https://user:password@example.com/": "must not contain a user name or password",
    "https://example.com/#secret": "must not contain a fragment",
    "https://169.254.169.254/latest/meta-data/": "has the address of an instance metadata service",
    "https://[fd00:ec2::254]/": "has the address of an instance metadata service",
    "https://10.1.2.3/": "has a private address",
    "https://0/": "must write an IPv4 address as four decimal numbers",
    "https://0x7f000001/": "must write an IPv4 address as four decimal numbers",
    "https://[::ffff:10.0.0.1]/": "has an IPv4-mapped IPv6 address",
    "https://[fe80::1]/": "has a link-local address",
    "https://service.internal/": "has a host name that is not public",
    "https://intranet/": "has a host name that is not public",
    "https://example.com:22/": "must use port 443 or a port from 1024 to 65535",
    "https://example.com:99999/": "has an invalid port",
}


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_hostile_url_returns_400_with_the_reason(deployment: FunctionHarness, url: str) -> None:
    expected = invalid(("url", HOSTILE_URLS[url]))
    assert answer(deployment.authorized("POST", ENDPOINTS, {"url": url})) == expected
    endpoint = create(deployment)
    assert answer(send(deployment, "PATCH", endpoint["id"], body={"url": url})) == expected
    assert list_all(deployment) == [without_secrets(endpoint)]


def test_loopback_url_returns_400_unless_the_deployment_permits_it(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOW_LOOPBACK_WEBHOOKS", "false")
    responses = {
        url: answer(deployment.authorized("POST", ENDPOINTS, {"url": url}))
        for url in ("https://127.0.0.1/", "https://localhost/", "http://127.0.0.1:8080/")
    }
    assert responses == {
        "https://127.0.0.1/": invalid(("url", "has a loopback address")),
        "https://localhost/": invalid(("url", "has a host name that is not public")),
        "http://127.0.0.1:8080/": invalid(("url", "must use https")),
    }


TEXT = "Input should be a valid string"
SURROGATE = "Input should be a valid string, unable to parse raw data as a unicode string"

INVALID_BODIES: dict[str, tuple[object, list[tuple[str, str]]]] = {
    "nothing": ({}, [("url", "is required")]),
    "no URL": ({"url": None}, [("url", "is required")]),
    "empty URL": ({"url": ""}, [("url", "String should have at least 1 character")]),
    "long URL": ({"url": f"{URL}/{'a' * 2048}"}, [("url", "String should have at most 2048 characters")]),
    "URL is a number": ({"url": 1}, [("url", TEXT)]),
    "URL is a list": ({"url": [URL]}, [("url", TEXT)]),
    "no events": ({"url": URL, "events": []}, [("events", "List should have at least 1 item after validation, not 0")]),
    "null as events": ({"url": URL, "events": None}, [("events", "Input should be a valid list")]),
    "events are text": ({"url": URL, "events": "*"}, [("events", "Input should be a valid list")]),
    "event is a number": ({"url": URL, "events": ["*", 1]}, [("events.1", TEXT)]),
    "unknown event": ({"url": URL, "events": ["invoice.paid", "invoice.created"]}, [("events", UNKNOWN_EVENTS)]),
    "event with a wildcard": ({"url": URL, "events": ["invoice.*"]}, [("events", UNKNOWN_EVENTS)]),
    "event of the deployment": ({"url": URL, "events": ["webhook_endpoint.disabled"]}, [("events", UNKNOWN_EVENTS)]),
    "test event": ({"url": URL, "events": ["webhook_endpoint.test"]}, [("events", UNKNOWN_EVENTS)]),
    "long description": (
        {"url": URL, "description": "a" * 501},
        [("description", "String should have at most 500 characters")],
    ),
    "description is an object": ({"url": URL, "description": {}}, [("description", TEXT)]),
    "half a character": ({"url": URL, "description": "\ud800"}, [("description", SURROGATE)]),
    "unknown field": ({"url": URL, "secret": "whsec_mine"}, [("secret", "is not a known field")]),
    "three problems": (
        {"events": [], "enabled": True},
        [
            ("enabled", "is not a known field"),
            ("url", "is required"),
            ("events", "List should have at least 1 item after validation, not 0"),
        ],
    ),
}


@pytest.mark.parametrize("name", INVALID_BODIES)
def test_invalid_body_returns_400_with_each_path(deployment: FunctionHarness, name: str) -> None:
    body, problems = INVALID_BODIES[name]
    assert answer(deployment.authorized("POST", ENDPOINTS, body)) == invalid(*problems)
    assert list_all(deployment) == []


def test_seventeenth_endpoint_returns_400(deployment: FunctionHarness, globex: FunctionHarness) -> None:
    """Each account has its own sixteen."""
    created = [without_secrets(create(deployment)) for _ in range(16)]
    response = deployment.authorized("POST", ENDPOINTS, {"url": URL})
    assert answer(response) == invalid(("", "There are 16 webhook endpoints already. Delete one first."))
    assert list_all(deployment) == created
    create(globex)
    send(deployment, "DELETE", created[3]["id"])
    added = without_secrets(create(deployment))
    assert list_all(deployment) == [*created[:3], *created[4:], added]


def test_repeated_idempotency_key_returns_the_same_endpoint_and_secret(deployment: FunctionHarness) -> None:
    body, headers = {"url": URL}, {"Idempotency-Key": "k1"}
    first, again = (deployment.authorized("POST", ENDPOINTS, body, more_headers=headers) for _ in range(2))
    assert answer(first) == answer(again)
    assert (first.headers.get("idempotent-replayed"), again.headers.get("idempotent-replayed")) == (None, "true")
    assert list_all(deployment) == [without_secrets(first.body)]
    reused = deployment.authorized("POST", ENDPOINTS, {"url": f"{URL}/2"}, more_headers=headers)
    assert (reused.status, reused.body["error"]["code"]) == (422, "IDEMPOTENCY_KEY_REUSE")


# --- List and get -----------------------------------------------------------------------------------------------------


def test_endpoints_of_a_new_account_are_an_empty_list(deployment: FunctionHarness) -> None:
    assert answer(deployment.authorized("GET", ENDPOINTS)) == (200, {"webhook_endpoints": []})


def test_endpoints_are_listed_oldest_first_without_secrets(deployment: FunctionHarness) -> None:
    created = [create(deployment, f"{URL}/{number}") for number in range(3)]
    response = deployment.authorized("GET", ENDPOINTS)
    assert answer(response) == (200, {"webhook_endpoints": [without_secrets(each) for each in created]})


def test_endpoints_with_a_query_parameter_return_400(deployment: FunctionHarness) -> None:
    response = deployment.authorized("GET", ENDPOINTS, query="limit=1")
    assert answer(response) == invalid(("limit", "is not a known parameter"))


def test_endpoint_is_returned_without_its_secret(deployment: FunctionHarness) -> None:
    create(deployment)
    created = create(deployment, f"{URL}/2", events=["invoice.paid"], description="Second")
    assert answer(send(deployment, "GET", created["id"])) == (200, without_secrets(created))


# --- Update -----------------------------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "url": ({"url": f"{URL}/2"}, {"url": f"{URL}/2"}),
    "events": ({"events": ["invoice.paid"]}, {"events": ["invoice.paid"]}),
    "description": ({"description": "New"}, {"description": "New"}),
    "empty description": ({"description": ""}, {"description": ""}),
    "enabled as before": ({"enabled": True}, {}),
    "several": (
        {"url": f"{URL}/2", "events": ["*"], "description": "New", "enabled": True},
        {"url": f"{URL}/2", "events": ["*"], "description": "New"},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_update_changes_only_the_given_fields(deployment: FunctionHarness, name: str) -> None:
    body, changed = CHANGES[name]
    other = without_secrets(create(deployment))
    before = without_secrets(create(deployment, events=["subscription.created"], description="Old"))
    for _ in range(2):
        response = send(deployment, "PATCH", before["id"], body=body)
        assert answer(response) == (200, before | changed | {"warning": None})
    assert list_all(deployment) == [other, before | changed]


def test_disabled_endpoint_has_reason_and_time_until_it_is_enabled(deployment: FunctionHarness) -> None:
    before = without_secrets(create(deployment))
    disabled = send(deployment, "PATCH", before["id"], body={"enabled": False})
    at = disabled.body["disabled_at"]
    assert TIME.fullmatch(at)
    expected = before | {"enabled": False, "disabled_reason": "request", "disabled_at": at}
    assert answer(disabled) == (200, expected | {"warning": None})
    assert send(deployment, "PATCH", before["id"], body={"enabled": False}).body == disabled.body
    assert send(deployment, "GET", before["id"]).body == expected
    enabled = send(deployment, "PATCH", before["id"], body={"enabled": True})
    assert answer(enabled) == (200, before | {"warning": None})


@pytest.mark.parametrize("body", [{"enabled": True}, {"url": f"{URL}/2"}])
def test_enabling_an_endpoint_or_changing_its_url_ends_its_pause(
    deployment: FunctionHarness, body: dict[str, Any]
) -> None:
    endpoint_id = create(deployment)["id"]
    pause(deployment, endpoint_id)
    send(deployment, "PATCH", endpoint_id, body={"description": "New", "enabled": False})
    assert len(items_with_prefix(deployment, "HEALTH")) == 1
    send(deployment, "PATCH", endpoint_id, body=body)
    assert items_with_prefix(deployment, "HEALTH") == []


def pause(deployment: FunctionHarness, endpoint_id: str) -> None:
    """Store that an endpoint does not answer in time."""
    now = datetime.now(UTC)
    health = EndpointHealth(now, slow_attempts=1, paused_until=now + timedelta(minutes=5))
    WebhookRepository(deployment.table).save_health(endpoint_id, health)


def test_updated_url_whose_name_does_not_resolve_is_accepted_with_a_warning(
    deployment: FunctionHarness,
    names: dict[str, str],  # noqa: ARG001 - no name resolves
) -> None:
    endpoint_id = create(deployment)["id"]
    response = send(deployment, "PATCH", endpoint_id, body={"url": "https://hooks.example.com/"})
    assert response.body["warning"] == "The host name does not resolve at the moment"


INVALID_CHANGES: dict[str, tuple[object, list[tuple[str, str]]]] = {
    "no body": (None, [("", "The body must have at least one field")]),
    "no field": ({}, [("", "The body must have at least one field")]),
    "null as URL": ({"url": None}, [("url", "must not be null")]),
    "null as description": ({"description": None, "enabled": True}, [("description", "must not be null")]),
    "several nulls": (
        {"enabled": None, "events": None},
        [("events", "must not be null"), ("enabled", "must not be null")],
    ),
    "enabled is text": ({"enabled": "false"}, [("enabled", "Input should be a valid boolean")]),
    "enabled is a number": ({"enabled": 0}, [("enabled", "Input should be a valid boolean")]),
    "empty URL": ({"url": ""}, [("url", "String should have at least 1 character")]),
    "no events": ({"events": []}, [("events", "List should have at least 1 item after validation, not 0")]),
    "unknown event": ({"events": ["charge.refunded"]}, [("events", UNKNOWN_EVENTS)]),
    "long description": ({"description": "a" * 501}, [("description", "String should have at most 500 characters")]),
    "another id": ({"id": "whe_1"}, [("id", "is not a known field")]),
    "secret": ({"secret": "whsec_mine", "enabled": True}, [("secret", "is not a known field")]),
}


@pytest.mark.parametrize("name", INVALID_CHANGES)
def test_invalid_change_returns_400_and_changes_nothing(deployment: FunctionHarness, name: str) -> None:
    body, problems = INVALID_CHANGES[name]
    before = without_secrets(create(deployment))
    assert answer(send(deployment, "PATCH", before["id"], body=body)) == invalid(*problems)
    assert list_all(deployment) == [before]


# --- Delete -----------------------------------------------------------------------------------------------------------


def test_deleted_endpoint_is_gone_with_its_secret_and_health(deployment: FunctionHarness) -> None:
    kept, deleted = create(deployment), create(deployment)
    pause(deployment, deleted["id"])
    response = send(deployment, "DELETE", deleted["id"])
    assert answer(response) == (200, {"id": deleted["id"], "deleted": True})
    assert list_all(deployment) == [without_secrets(kept)]
    assert items_with_prefix(deployment, "HEALTH") == []
    assert deleted["secret"] not in str(deployment.table.client.scan(TableName=deployment.table.name))
    for method, action, body in (("GET", "", None), ("DELETE", "", None), ("PATCH", "", {"enabled": True})):
        assert answer(send(deployment, method, deleted["id"], action, body)) == not_found()


def test_delete_ignores_a_body_and_rejects_a_query_parameter(deployment: FunctionHarness) -> None:
    endpoint_id = create(deployment)["id"]
    response = send(deployment, "DELETE", endpoint_id, query="force=true")
    assert answer(response) == invalid(("force", "is not a known parameter"))
    assert send(deployment, "DELETE", endpoint_id, body=["nothing"]).status == 200


# --- Rotate -----------------------------------------------------------------------------------------------------------


def test_rotated_secret_is_new_and_the_previous_one_lasts_24_hours(deployment: FunctionHarness) -> None:
    create(deployment)
    before = create(deployment)
    now = datetime.now(UTC)
    response = send(deployment, "POST", before["id"], "/rotate-secret")
    secret, expires_at = response.body["secret"], response.body["previous_secret_expires_at"]
    expected = without_secrets(before) | {"secret": secret, "previous_secret_expires_at": expires_at}
    assert answer(response) == (200, expected)
    assert SECRET.fullmatch(secret)
    assert secret != before["secret"]
    assert abs(datetime.fromisoformat(expires_at) - now - timedelta(days=1)) < timedelta(seconds=5)
    assert send(deployment, "GET", before["id"]).body == without_secrets(before)


def test_rotation_with_a_field_returns_400(deployment: FunctionHarness) -> None:
    endpoint_id = create(deployment)["id"]
    response = send(deployment, "POST", endpoint_id, "/rotate-secret", {"secret": "whsec_mine"})
    assert answer(response) == invalid(("secret", "is not a known field"))
    assert send(deployment, "POST", endpoint_id, "/rotate-secret", {}).status == 200


def test_idempotency_key_applies_to_one_endpoint(deployment: FunctionHarness) -> None:
    first, second = create(deployment), create(deployment)
    headers = {"Idempotency-Key": "monthly"}
    rotated = [
        send(deployment, "POST", each["id"], "/rotate-secret", more_headers=headers) for each in (first, second, first)
    ]
    assert [each.body["id"] for each in rotated] == [first["id"], second["id"], first["id"]]
    assert [each.headers.get("idempotent-replayed") for each in rotated] == [None, None, "true"]
    assert rotated[0].body == rotated[2].body


# --- Secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_are_in_no_other_response_and_in_no_log(
    deployment: FunctionHarness, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    created = create(deployment)
    rotated = send(deployment, "POST", created["id"], "/rotate-secret").body
    others = [
        deployment.authorized("GET", ENDPOINTS),
        deployment.authorized("POST", ENDPOINTS, {"url": "http://example.com"}),
        send(deployment, "GET", created["id"]),
        send(deployment, "PATCH", created["id"], body={"description": "New"}),
        send(deployment, "PATCH", created["id"], body={}),
        send(deployment, "GET", created["id"], "/deliveries"),
        send(deployment, "POST", created["id"], "/replay", {"since": "2026-01-01T00:00:00Z"}),
        send(deployment, "DELETE", created["id"]),
    ]
    text = printed() + str(others)
    assert "whsec_" not in text
    assert [secret for secret in (created["secret"], rotated["secret"]) if secret.removeprefix("whsec_") in text] == []
