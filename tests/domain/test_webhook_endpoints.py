"""Webhook endpoints: subscribed types, secrets, and the limits of a list."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from billing.domain.errors import ObjectUnknown, RequestInvalid
from billing.domain.outbound_events import ACCOUNT_EVENT_TYPES, DEPLOYMENT_EVENT_TYPES
from billing.domain.webhook_endpoints import (
    ENDPOINTS_MAX,
    ROTATION_PERIOD,
    SECRETS_MAX,
    DisabledReason,
    EndpointList,
    SigningSecret,
    WebhookEndpoint,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ENDPOINT = WebhookEndpoint(
    "whe_1", "https://example.com", ("invoice.paid",), "", created=NOW, secrets=(SigningSecret("whsec_1"),)
)


def test_endpoint_receives_its_types_while_it_is_enabled() -> None:
    endpoints = EndpointList("acme")
    assert endpoints.sends("invoice.paid", ENDPOINT)
    assert not endpoints.sends("subscription.created", ENDPOINT)
    assert endpoints.sends("subscription.created", replace(ENDPOINT, events=("*",)))
    disabled = ENDPOINT.disable(DisabledReason.GONE, NOW)
    assert not endpoints.sends("invoice.paid", disabled)
    assert disabled.enable() == ENDPOINT


def test_all_events_of_an_account_do_not_include_those_of_the_deployment() -> None:
    everything = replace(ENDPOINT, events=("*",))
    assert not EndpointList("acme").sends("webhook_endpoint.disabled", everything)
    assert EndpointList(None).sends("webhook_endpoint.disabled", everything)


def test_rotated_secret_signs_beside_the_former_one_for_a_day() -> None:
    rotated = ENDPOINT.with_secret("whsec_2", NOW)
    assert rotated.secrets_at(NOW + ROTATION_PERIOD - timedelta(seconds=1)) == ("whsec_2", "whsec_1")
    assert rotated.secrets_at(NOW + ROTATION_PERIOD) == ("whsec_2",)


def test_repeated_rotation_keeps_the_secrets_that_are_valid() -> None:
    """If the response to a rotation is lost, the receiver still has the secret before it."""
    later = NOW + timedelta(hours=1)
    twice = ENDPOINT.with_secret("whsec_2", NOW).with_secret("whsec_3", later)
    assert twice.secrets_at(later) == ("whsec_3", "whsec_2", "whsec_1")
    assert twice.secrets_at(NOW + ROTATION_PERIOD) == ("whsec_3", "whsec_2")
    often = twice
    for number in range(4, 9):
        often = often.with_secret(f"whsec_{number}", later)
    assert len(often.secrets_at(later)) == SECRETS_MAX


def test_secrets_are_not_part_of_the_text_of_an_endpoint() -> None:
    """An exception or a log entry may contain it."""
    rotated = ENDPOINT.with_secret("whsec_rotated", datetime.now(UTC))
    assert rotated.secret == "whsec_rotated"
    assert ENDPOINT.secret not in repr(rotated)
    assert "whsec_rotated" not in repr(EndpointList("acme", (rotated,)))


def test_list_holds_at_most_sixteen_endpoints() -> None:
    endpoints = EndpointList("acme")
    for number in range(ENDPOINTS_MAX):
        endpoints = endpoints.add(replace(ENDPOINT, id=f"whe_{number}"))
    with pytest.raises(RequestInvalid, match="16 webhook endpoints"):
        endpoints.add(replace(ENDPOINT, id="whe_16"))
    assert len(endpoints.remove("whe_3").add(ENDPOINT).endpoints) == ENDPOINTS_MAX


def test_list_without_the_endpoint_raises() -> None:
    endpoints = EndpointList("acme", (ENDPOINT,))
    assert endpoints.find("whe_1") == ENDPOINT
    for use in (endpoints.find, endpoints.remove):
        with pytest.raises(ObjectUnknown, match="no webhook endpoint"):
            use("whe_2")


def test_event_types_are_ordered_and_without_duplicates() -> None:
    endpoints = EndpointList("acme")
    assert endpoints.checked_events(["invoice.paid", "subscription.created", "invoice.paid"]) == (
        "subscription.created",
        "invoice.paid",
    )
    assert endpoints.checked_events(["invoice.paid", "*"]) == ("*",)


@pytest.mark.parametrize("events", [[], ["invoice.payed"], ["invoice.paid", ""], ["webhook_endpoint.disabled"]])
def test_unknown_event_type_of_an_account_is_refused_with_the_known_ones(events: list[str]) -> None:
    with pytest.raises(RequestInvalid) as refused:
        EndpointList("acme").checked_events(events)
    [problem] = refused.value.problems
    assert (problem.path, problem.message) == ("events", f"must be a list of: *, {', '.join(ACCOUNT_EVENT_TYPES)}")


def test_endpoint_of_the_deployment_can_receive_disabled_endpoints() -> None:
    assert EndpointList(None).checked_events(["webhook_endpoint.disabled"]) == ("webhook_endpoint.disabled",)
    assert set(DEPLOYMENT_EVENT_TYPES) - set(ACCOUNT_EVENT_TYPES) == {"webhook_endpoint.disabled"}
