"""GET /v1/billing/plans with its whole body."""

import pytest

from tests.functions.support import FunctionHarness

pytestmark = pytest.mark.engine

PLANS = [
    {
        "id": "free",
        "name": "Free",
        "trial_days": 0,
        "contact": None,
        "prices": [],
        "features": {"priority_support": False, "custom_agents": False, "policy_controls": False, "sla": False},
        "limits": {"projects": 1, "api_calls": 1_000, "agent_invocations": 50, "team_members": 1},
    },
    {
        "id": "pro",
        "name": "Pro",
        "trial_days": 0,
        "contact": None,
        "prices": [
            {
                "lookup_key": "pro_monthly",
                "unit_amount": 1_900,
                "currency": "usd",
                "interval": "month",
                "per_seat": False,
            }
        ],
        "features": {"priority_support": True, "custom_agents": False, "policy_controls": False, "sla": False},
        "limits": {"projects": 10, "api_calls": 10_000, "agent_invocations": 1_000, "team_members": 1},
    },
    {
        "id": "team",
        "name": "Team",
        "trial_days": 14,
        "contact": None,
        "prices": [
            {
                "lookup_key": "team_monthly",
                "unit_amount": 4_900,
                "currency": "usd",
                "interval": "month",
                "per_seat": True,
            }
        ],
        "features": {"priority_support": True, "custom_agents": True, "policy_controls": True, "sla": "99.9%"},
        "limits": {"projects": 50, "api_calls": 50_000, "agent_invocations": 5_000, "team_members": None},
    },
    {
        "id": "enterprise",
        "name": "Enterprise",
        "trial_days": 0,
        "contact": "sales@example.com",
        "prices": [],
        "features": {"priority_support": True, "custom_agents": True, "policy_controls": True, "sla": "99.99%"},
        "limits": {"projects": None, "api_calls": None, "agent_invocations": None, "team_members": None},
    },
]


def test_plans_returns_the_catalog(deployment: FunctionHarness) -> None:
    """Plans are ordered from the smallest to the largest. A null limit means unlimited."""
    response = deployment.authorized("GET", "/v1/billing/plans")
    assert (response.status, response.body) == (200, {"plans": PLANS})


def test_plans_with_a_query_parameter_returns_400(deployment: FunctionHarness) -> None:
    response = deployment.authorized("GET", "/v1/billing/plans", query="currency=eur")
    assert response.status == 400
    assert response.body["error"]["details"] == [{"path": "currency", "message": "is not a known parameter"}]
