"""POST and GET /v1/billing/usage, with whole bodies; and the same usage as the other contracts show it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.adapters.usage_repository import UsageRepository
from tests.functions.conftest import Answer, Deployment
from tests.functions.events import subscription_event

pytestmark = pytest.mark.engine

USAGE = "/v1/billing/usage"
PERIOD_START, PERIOD_END = "2029-12-01T00:00:00Z", "2030-01-01T00:00:00Z"


def record(deployment: Deployment, *measurements: dict[str, Any]) -> Answer:
    """Send measurements as acme."""
    return deployment.authorized("POST", USAGE, {"measurements": list(measurements)})


def measurement(id: str = "m_1", metric: str = "api_calls", value: Any = 1, **more: Any) -> dict[str, Any]:  # noqa: A002
    """One that is good."""
    return {"id": id, "metric": metric, "value": value, **more}


def line(metric: str, used: int, limit: int | None, remaining: int | None) -> dict[str, Any]:
    """A metric as usage shows it."""
    return {"metric": metric, "used": used, "limit": limit, "remaining": remaining}


@pytest.fixture
def subscriber(deployment: Deployment) -> Deployment:
    """The deployment, with acme on the pro plan until 2030."""
    deployment.deliver(subscription_event(created=datetime.now(UTC) - timedelta(minutes=1)))
    return deployment


def this_month() -> dict[str, str]:
    """The calendar month in UTC, as it is shown."""
    now = datetime.now(UTC)
    start = f"{now:%Y-%m}-01T00:00:00Z"
    return {"period_start": start, "period_end": f"{now.year + now.month // 12}-{now.month % 12 + 1:02}-01T00:00:00Z"}


def test_an_account_that_used_nothing_sees_its_limits(deployment: Deployment) -> None:
    """Those of the free plan, for this month; its one member is its owner."""
    before = this_month()
    answer = deployment.authorized("GET", USAGE)
    expected = {
        "plan": "free",
        "usage": [
            line("projects", 0, 1, 1),
            line("api_calls", 0, 1_000, 1_000),
            line("agent_invocations", 0, 50, 50),
            line("team_members", 1, 1, 0),
        ],
    }
    assert answer.status == 200
    assert answer.body in (expected | before, expected | this_month())


def test_what_was_recorded_is_used(subscriber: Deployment) -> None:
    """Counted in the subscription's own period, and each measurement once."""
    answer = record(
        subscriber,
        measurement("m_1", value=9_000),
        measurement("m_2", value=1_500, action="consume"),
        measurement("m_3", value=500, action="consume"),
        measurement("m_4", "projects", 4, action="consume"),
        measurement("m_5", "projects", 11, action="consume"),
    )
    assert (answer.status, answer.body) == (
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


def test_a_plan_without_a_limit_shows_nulls(deployment: Deployment) -> None:
    """There is no remainder of what is unlimited."""
    deployment.deliver(subscription_event(lookup_key="team_monthly"))
    assert deployment.authorized("GET", USAGE).body["usage"][3] == line("team_members", 1, None, None)


def test_a_larger_plan_lets_the_same_measurement_in(subscriber: Deployment) -> None:
    """A refused one is not remembered; what was used before counts on."""
    record(subscriber, measurement("m_1", value=9_000))
    asked = measurement("m_2", value=2_000, action="consume")
    assert record(subscriber, asked).body["results"][0]["outcome"] == "limit_reached"
    subscriber.deliver(subscription_event(lookup_key="team_monthly"))
    assert record(subscriber, asked).body == {"results": [{"id": "m_2", "outcome": "recorded"}]}
    assert subscriber.authorized("GET", USAGE).body["usage"][1] == line("api_calls", 11_000, 50_000, 39_000)


@pytest.mark.parametrize(
    ("path", "envelope"),
    [("/api/billing/usage", True), ("/subscription/usage", False)],
    ids=["organization", "subscription"],
)
def test_other_contracts_show_the_same(subscriber: Deployment, path: str, envelope: bool) -> None:  # noqa: FBT001
    """In their own casing and envelope."""
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
    answer = subscriber.authorized("GET", path)
    assert answer.status == 200
    assert answer.body == ({"success": True, "data": data, "error": None} if envelope else data)


def test_members_show_in_the_teams_contract(subscriber: Deployment) -> None:
    """The gauge that counts them is the document's memberCount."""
    record(subscriber, measurement("m_1", "team_members", 5))
    path = "/api/v1/teams/{teamId}/billing/subscription"
    answer = subscriber.authorized(
        "GET", "/api/v1/teams/acme/billing/subscription", route=f"GET {path}", parameters={"teamId": "acme"}
    )
    assert answer.body["data"]["memberCount"] == 5


def test_another_accounts_usage_is_its_own(subscriber: Deployment) -> None:
    """Nothing that globex does is acme's."""
    UsageRepository(subscriber.table).set_gauge("globex", "projects", 9)
    assert subscriber.authorized("GET", USAGE).body["usage"][0] == line("projects", 0, 10, 10)


METRICS = "must be one of: projects, api_calls, agent_invocations, team_members"


WRONG: dict[str, tuple[object, set[str]]] = {
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
    "truth": ({"measurements": [measurement(value=True)]}, {"measurements.0.value"}),
    "null": ({"measurements": [measurement(value=None)]}, {"measurements.0.value"}),
    "unknown action": ({"measurements": [measurement(action="reserve")]}, {"measurements.0.action"}),
    "no action": ({"measurements": [measurement(action=None)]}, {"measurements.0.action"}),
    "unknown field": ({"measurements": [measurement(at="2026-01-01")]}, {"measurements.0.at"}),
    "another account": ({"measurements": [measurement()], "account": "globex"}, {"account"}),
}


def test_a_wrong_measurement_is_told_with_its_place(deployment: Deployment) -> None:
    """Each kind of mistake, and nothing of the request is recorded."""
    answers = {name: deployment.authorized("POST", USAGE, body) for name, (body, _) in WRONG.items()}
    assert {(each.status, each.body["error"]["code"]) for each in answers.values()} == {(400, "VALIDATION_FAILED")}
    told = {name: {each["path"] for each in answer.body["error"]["details"]} for name, answer in answers.items()}
    assert told == {name: paths for name, (_, paths) in WRONG.items()}
    assert deployment.authorized("GET", USAGE).body["usage"][1] == line("api_calls", 0, 1_000, 1_000)


def test_an_unknown_metric_is_told_which_there_are(subscriber: Deployment) -> None:
    """Those of the catalog."""
    answer = record(subscriber, measurement(metric="calls"))
    assert answer.body == {
        "error": {
            "code": "VALIDATION_FAILED",
            "message": f"measurements.0.metric: {METRICS}",
            "details": [{"path": "measurements.0.metric", "message": METRICS}],
        }
    }


def test_the_smallest_and_the_largest_are_taken(subscriber: Deployment) -> None:
    """A hundred measurements with ids of up to 255 characters, of nothing and of a million millions."""
    ids = [f"{number:03}{'!~#'[number % 3] * 252}" for number in range(100)]
    answer = record(subscriber, *(measurement(each, value=[0, 10**12][place % 2]) for place, each in enumerate(ids)))
    assert answer.body == {"results": [{"id": each, "outcome": "recorded"} for each in ids]}
    assert subscriber.authorized("GET", USAGE).body["usage"][1]["used"] == 50 * 10**12


def test_usage_takes_no_parameters(deployment: Deployment) -> None:
    """What nothing reads is refused."""
    answer = deployment.authorized("GET", USAGE, query="metric=projects")
    assert answer.body["error"]["details"] == [{"path": "metric", "message": "is not a known parameter"}]
