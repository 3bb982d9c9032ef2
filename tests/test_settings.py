"""Settings from the environment: complete, or rejected with the name of the variable."""

from datetime import timedelta

import pytest

from billing import settings
from billing.domain.deployment import Deployment
from billing.domain.errors import ConfigurationMissing
from billing.settings import load_settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set only the variables that every function has."""
    monkeypatch.setenv("TABLE_NAME", "billing")
    monkeypatch.setenv("DEPLOYMENT_ID", "billing-prod")
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://app.example.com")
    return monkeypatch


def test_defaults_are_test_mode_and_fourteen_days_of_grace() -> None:
    found = load_settings()
    assert (found.stripe_api_base, found.livemode, found.allow_promotion_codes) == (None, False, False)
    assert found.deployment == Deployment("billing-prod", livemode=False, links_by_client_reference=False)
    assert found.past_due_grace == timedelta(days=14)


def test_every_variable_sets_its_setting(environment: pytest.MonkeyPatch) -> None:
    for name, value in {
        "STRIPE_SECRET_ID": "arn:secret",
        "STRIPE_API_BASE": "http://127.0.0.1:8001",
        "STRIPE_MODE": "live",
        "LINK_BY_CLIENT_REFERENCE": "true",
        "ALLOWED_ORIGINS": "https://app.example.com/, https://www.example.com",
        "PAST_DUE_GRACE_DAYS": "3",
        "ALLOW_PROMOTION_CODES": "true",
        "RATE_LIMIT_PER_MINUTE": "7",
        "RATE_LIMIT_PER_HOUR": "70",
    }.items():
        environment.setenv(name, value)
    assert load_settings() == settings.Settings(
        table_name="billing",
        stripe_secret_id="arn:secret",
        stripe_api_base="http://127.0.0.1:8001",
        deployment=Deployment("billing-prod", livemode=True, links_by_client_reference=True),
        allowed_origins=("https://app.example.com", "https://www.example.com"),
        past_due_grace=timedelta(days=3),
        allow_promotion_codes=True,
        rate_limit_per_minute=7,
        rate_limit_per_hour=70,
        session=None,
    )


@pytest.mark.parametrize("name", ["TABLE_NAME", "ALLOWED_ORIGINS", "DEPLOYMENT_ID"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_variable_raises_configuration_missing_with_its_name(
    environment: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    if value is None:
        environment.delenv(name)
    else:
        environment.setenv(name, value)
    with pytest.raises(ConfigurationMissing, match=name):
        load_settings()
