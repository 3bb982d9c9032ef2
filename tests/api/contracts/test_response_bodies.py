"""Response bodies of each contract, compared as a whole with the examples of its document."""

import pytest

from tests.api.contracts.examples import (
    NEVER_SUBSCRIBED,
    NO_HISTORY,
    NO_PORTAL,
    PORTAL,
    REFERENCE,
    SUBSCRIBED,
    SUBSCRIPTION,
    TEAM,
    UNAUTHENTICATED,
    send_request,
    without_timestamp,
)
from tests.functions.events import subscription_event
from tests.functions.support import FunctionHarness

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("contract", SUBSCRIBED)
def test_subscription_response_equals_the_documents_example(deployment: FunctionHarness, contract: str) -> None:
    deployment.deliver(subscription_event())
    response = send_request(deployment, "GET", SUBSCRIPTION[contract])
    assert (response.status, response.body) == (200, SUBSCRIBED[contract])


@pytest.mark.parametrize("contract", NEVER_SUBSCRIBED)
def test_subscription_response_without_subscription_is_free_with_nulls(
    deployment: FunctionHarness, contract: str
) -> None:
    response = send_request(deployment, "GET", SUBSCRIPTION[contract])
    assert (response.status, response.body) == (200, NEVER_SUBSCRIBED[contract])


def test_subscription_contract_without_subscription_returns_404(deployment: FunctionHarness) -> None:
    response = send_request(deployment, "GET", SUBSCRIPTION["subscription"])
    assert (response.status, response.body) == (404, {"error": {"code": "no_subscription", "message": NO_HISTORY}})


@pytest.mark.parametrize("contract", UNAUTHENTICATED)
def test_missing_credential_response_equals_the_documents_example(deployment: FunctionHarness, contract: str) -> None:
    path, parameters = PORTAL[contract]
    response = deployment.call("POST", path.format(**parameters), route=f"POST {path}", parameters=parameters)
    assert (response.status, without_timestamp(response.body)) == (401, UNAUTHENTICATED[contract])


@pytest.mark.parametrize("contract", NO_PORTAL)
def test_portal_without_subscription_response_equals_the_documents_example(
    deployment: FunctionHarness, contract: str
) -> None:
    response = send_request(deployment, "POST", PORTAL[contract])
    assert (response.status, without_timestamp(response.body)) == NO_PORTAL[contract]


def test_team_path_of_another_account_returns_403_whether_or_not_it_exists(deployment: FunctionHarness) -> None:
    for team in ("globex", "nobody"):
        response = send_request(deployment, "GET", (f"{TEAM}/subscription", {"teamId": team}))
        assert (response.status, without_timestamp(response.body)) == (
            403,
            {
                "success": False,
                "error": {
                    "type": "authorization_error",
                    "code": "insufficient_permissions",
                    "message": "The credential does not give access to this account",
                    "doc_url": f"{REFERENCE}#authentication",
                    "request_id": "request-1",
                },
                "meta": {"timestamp": "TIME"},
            },
        )


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/billing/nothing", ("error", "code", "NOT_FOUND")),
        ("/api/v1/teams/acme/billing/nothing", ("error", "code", "resource_not_found")),
        ("/api/billing/nothing", ("error", "code", "NOT_FOUND")),
        ("/subscription/nothing", ("error", "code", "not_found")),
        ("/api/billing-portal/nothing", ("error", "docUrl", "https://orbitkit.io/api/errors/#not_found")),
        ("/subscriptions", ("error", "code", "NOT_FOUND")),
    ],
)
def test_an_unknown_path_responses_in_the_envelope_of_its_base_path(
    deployment: FunctionHarness, path: str, code: tuple[str, str, str]
) -> None:
    """And in the native one where no contract has it."""
    response = deployment.call("GET", path, route="$default")
    assert response.status == 404
    assert response.body[code[0]][code[1]] == code[2]
