"""POST and GET /v1/billing/usage with whole bodies, and the same usage in other contracts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.adapters.usage_repository import UsageRepository
from tests.functions.events import subscription_event
from tests.functions.support import FunctionHarness, Response

pytestmark = pytest.mark.engine

USAGE = "/v1/billing/usage"
PERIOD_START, PERIOD_END = "2029-12-01T00:00:00Z", "2030-01-01T00:00:00Z"


def record(deployment: FunctionHarness, *measurements: dict[str, Any]) -> Response:
    """Record measurements as acme."""
    return deployment.authorized("POST", USAGE, {"measurements": list(measurements)})


def measurement(id: str = "m_1", metric: str = "api_calls", value: Any = 1, **more: Any) -> dict[str, Any]:  # noqa: A002
    """Return a valid measurement."""
    return {"id": id, "metric": metric, "value": value, **more}


def line(metric: str, used: int, limit: int | None, remaining: int | None) -> dict[str, Any]:
    """Return a metric as the usage response shows it."""
    return {"metric": metric, "used": used, "limit": limit, "remaining": remaining}


@pytest.fixture
def subscriber(deployment: FunctionHarness) -> FunctionHarness:
    """The deployment, with acme on the pro plan until 2030."""
    deployment.deliver(subscription_event(created=datetime.now(UTC) - timedelta(minutes=1)))
    return deployment


def this_month() -> dict[str, str]:
    """Return the current calendar month in UTC as a period."""
    now = datetime.now(UTC)
    start = f"{now:%Y-%m}-01T00:00:00Z"
    return {"period_start": start, "period_end": f"{now.year + now.month // 12}-{now.month % 12 + 1:02}-01T00:00:00Z"}


def test_usage_of_a_new_account_shows_the_free_limits(deployment: FunctionHarness) -> None:
    """The owner is the one team member."""
    before = this_month()
    response = deployment.authorized("GET", USAGE)
    expected = {
        "plan": "free",
        "usage": [
            line("projects", 0, 1, 1),
            line("api_calls", 0, 1_000, 1_000),
            line("agent_invocations", 0, 50, 50),
            line("team_members", 1, 1, 0),
        ],
    }
    assert response.status == 200
    assert response.body in (expected | before, expected | this_month())


def test_usage_after_recording_shows_the_totals(subscriber: FunctionHarness) -> None:
    """Usage belongs to the subscription's period. Each measurement is added once."""
    response = record(
        subscriber,
        measurement("m_1", value=9_000),
        measurement("m_2", value=1_500, action="consume"),
        measurement("m_3", value=500, action="consume"),
        measurement("m_4", "projects", 4, action="consume"),
        measurement("m_5", "projects", 11, action="consume"),
    )
    assert (response.status, response.body) == (
        200,
        {
            "results": [
                {"id": "m_1", "outcome": "recorded"},
                {"id": "m_2", "outcome": "limit_reached", "used": 9_000, "limit": 10_000},
                {"id": "m_3", "outcome": "recorded"},
                {"id": "m_4", "outcome": "recorded"},
                {"id": "m_5", "outcome": "limit_reached", "used": 4, "limit": 10},
            ]
        },
    )
    again = record(subscriber, measurement("m_1", value=9_000), measurement("m_6", value=9_000, action="track"))
    assert again.body == {"results": [{"id": "m_1", "outcome": "duplicate"}, {"id": "m_6", "outcome": "recorded"}]}
    assert subscriber.authorized("GET", USAGE).body == {
        "plan": "pro",
        "period_start": PERIOD_START,
        "period_end": PERIOD_END,
        "usage": [
            line("projects", 4, 10, 6),
            line("api_calls", 18_500, 10_000, 0),
            line("agent_invocations", 0, 1_000, 1_000),
            line("team_members", 1, 1, 0),
        ],
    }


def test_recorded_id_with_another_content_is_a_conflict_that_names_the_difference(subscriber: FunctionHarness) -> None:
    record(subscriber, measurement("m_1", value=5, action="consume"))
    again = record(subscriber, measurement("m_1", value=7, action="consume"), measurement("m_2", value=1))
    conflict = {
        "id": "m_1",
        "outcome": "conflict",
        "recorded": {"metric": "api_calls", "value": 5, "action": "consume"},
        "differences": ["value"],
    }
    assert (again.status, again.body) == (200, {"results": [conflict, {"id": "m_2", "outcome": "recorded"}]})
    assert subscriber.authorized("GET", USAGE).body["usage"][1] == line("api_calls", 6, 10_000, 9_994)


def test_usage_of_an_unlimited_metric_shows_nulls(deployment: FunctionHarness) -> None:
    deployment.deliver(subscription_event(lookup_key="team_monthly"))
    assert deployment.authorized("GET", USAGE).body["usage"][3] == line("team_members", 1, None, None)


def test_rejected_measurement_is_recorded_after_an_upgrade(subscriber: FunctionHarness) -> None:
    """A rejected measurement is not stored. Usage before the upgrade is kept."""
    record(subscriber, measurement("m_1", value=9_000))
    consumed = measurement("m_2", value=2_000, action="consume")
    assert record(subscriber, consumed).body["results"][0]["outcome"] == "limit_reached"
    subscriber.deliver(subscription_event(lookup_key="team_monthly"))
    assert record(subscriber, consumed).body == {"results": [{"id": "m_2", "outcome": "recorded"}]}
    assert subscriber.authorized("GET", USAGE).body["usage"][1] == line("api_calls", 11_000, 50_000, 39_000)


PATHS = {"organization": "/api/billing/usage", "subscription": "/subscription/usage"}


@pytest.mark.parametrize("contract", PATHS)
def test_usage_in_other_contracts_has_their_casing_and_envelope(subscriber: FunctionHarness, contract: str) -> None:
    record(subscriber, measurement(value=7))
    data = {
        "plan": "pro",
        "periodStart": PERIOD_START,
        "periodEnd": PERIOD_END,
        "usage": [
            line("projects", 0, 10, 10),
            line("api_calls", 7, 10_000, 9_993),
            line("agent_invocations", 0, 1_000, 1_000),
            line("team_members", 1, 1, 0),
        ],
    }
    body = {"success": True, "data": data, "error": None} if contract == "organization" else data
    response = subscriber.authorized("GET", PATHS[contract])
    assert (response.status, response.body) == (200, body)


def test_teams_contract_returns_team_members_as_member_count(subscriber: FunctionHarness) -> None:
    record(subscriber, measurement("m_1", "team_members", 5))
    path = "/api/v1/teams/{teamId}/billing/subscription"
    response = subscriber.authorized(
        "GET", "/api/v1/teams/acme/billing/subscription", route=f"GET {path}", parameters={"teamId": "acme"}
    )
    assert response.body["data"]["memberCount"] == 5


def test_usage_of_another_account_is_not_shown(subscriber: FunctionHarness) -> None:
    UsageRepository(subscriber.table).set_gauge("globex", "projects", 9)
    assert subscriber.authorized("GET", USAGE).body["usage"][0] == line("projects", 0, 10, 10)


METRICS = "must be one of: projects, api_calls, agent_invocations, team_members"


INVALID_BODIES: dict[str, tuple[object, set[str]]] = {
    "nothing": ({}, {"measurements"}),
    "none": ({"measurements": []}, {"measurements"}),
    "no list": ({"measurements": {}}, {"measurements"}),
    "too many": ({"measurements": [measurement(str(number)) for number in range(101)]}, {"measurements"}),
    "no object": ({"measurements": [7]}, {"measurements.0"}),
    "empty": ({"measurements": [{}]}, {"measurements.0.id", "measurements.0.metric", "measurements.0.value"}),
    "empty id": ({"measurements": [measurement(), measurement("")]}, {"measurements.1.id"}),
    "space in an id": ({"measurements": [measurement("m 1")]}, {"measurements.0.id"}),
    "line break in an id": ({"measurements": [measurement("m_1\n")]}, {"measurements.0.id"}),
    "id beyond ASCII": ({"measurements": [measurement("ä")]}, {"measurements.0.id"}),
    "long id": ({"measurements": [measurement("m" * 256)]}, {"measurements.0.id"}),
    "number as id": ({"measurements": [measurement() | {"id": 1}]}, {"measurements.0.id"}),
    "id twice": ({"measurements": [measurement(), measurement("m_2"), measurement()]}, {"measurements.2.id"}),
    "unknown metric": ({"measurements": [measurement(), measurement("m_2", "calls")]}, {"measurements.1.metric"}),
    "capitals": ({"measurements": [measurement(metric="API_CALLS")]}, {"measurements.0.metric"}),
    "negative": ({"measurements": [measurement(value=-1)]}, {"measurements.0.value"}),
    "too much": ({"measurements": [measurement(value=10**12 + 1)]}, {"measurements.0.value"}),
    "text": ({"measurements": [measurement(value="1")]}, {"measurements.0.value"}),
    "fraction": ({"measurements": [measurement(value=1.5)]}, {"measurements.0.value"}),
    "boolean": ({"measurements": [measurement(value=True)]}, {"measurements.0.value"}),
    "null": ({"measurements": [measurement(value=None)]}, {"measurements.0.value"}),
    "unknown action": ({"measurements": [measurement(action="reserve")]}, {"measurements.0.action"}),
    "null action": ({"measurements": [measurement(action=None)]}, {"measurements.0.action"}),
    "unknown field": ({"measurements": [measurement(at="2026-01-01")]}, {"measurements.0.at"}),
    "another account": ({"measurements": [measurement()], "account": "globex"}, {"account"}),
}


def test_invalid_measurement_returns_400_with_its_path(deployment: FunctionHarness) -> None:
    """Nothing of a rejected request is recorded."""
    responses = {name: deployment.authorized("POST", USAGE, body) for name, (body, _) in INVALID_BODIES.items()}
    assert {(each.status, each.body["error"]["code"]) for each in responses.values()} == {(400, "VALIDATION_FAILED")}
    problem_paths = {
        name: {each["path"] for each in response.body["error"]["details"]} for name, response in responses.items()
    }
    assert problem_paths == {name: paths for name, (_, paths) in INVALID_BODIES.items()}
    assert deployment.authorized("GET", USAGE).body["usage"][1] == line("api_calls", 0, 1_000, 1_000)


def test_unknown_metric_error_lists_the_metrics(subscriber: FunctionHarness) -> None:
    response = record(subscriber, measurement(metric="calls"))
    assert response.body == {
        "error": {
            "code": "VALIDATION_FAILED",
            "message": f"measurements.0.metric: {METRICS}",
            "details": [{"path": "measurements.0.metric", "message": METRICS}],
        }
    }


def test_measurements_at_the_limits_are_recorded(subscriber: FunctionHarness) -> None:
    """One request may hold 100 measurements, with ids of 255 characters and values from 0 to 10^12."""
    ids = [f"{number:03}{'!~#'[number % 3] * 252}" for number in range(100)]
    response = record(subscriber, *(measurement(each, value=[0, 10**12][index % 2]) for index, each in enumerate(ids)))
    assert response.body == {"results": [{"id": each, "outcome": "recorded"} for each in ids]}
    assert subscriber.authorized("GET", USAGE).body["usage"][1]["used"] == 50 * 10**12


def test_usage_with_a_query_parameter_returns_400(deployment: FunctionHarness) -> None:
    response = deployment.authorized("GET", USAGE, query="metric=projects")
    assert response.body["error"]["details"] == [{"path": "metric", "message": "is not a known parameter"}]
