"""Settings from the environment: complete, or rejected with the name of the variable."""

from datetime import timedelta

import pytest

from billing import settings
from billing.domain.deployment import Deployment
from billing.domain.errors import ConfigurationMissing
from billing.domain.subscriptions import AccessPolicy
from billing.settings import WebhookSettings, load_settings
from tests.conftest import template


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
    assert found.access_policy == AccessPolicy(timedelta(days=14), pause_collection_grants=True)
    assert (found.webhooks.event_bus, found.webhooks.allows_loopback) == (None, False)


def test_every_variable_sets_its_setting(environment: pytest.MonkeyPatch) -> None:
    for name, value in {
        "STRIPE_SECRET_ID": "arn:secret",
        "STRIPE_API_BASE": "http://127.0.0.1:8001",
        "STRIPE_MODE": "live",
        "LINK_BY_CLIENT_REFERENCE": "true",
        "ALLOWED_ORIGINS": "https://app.example.com/, https://www.example.com",
        "PAST_DUE_GRACE_DAYS": "3",
        "PAUSE_COLLECTION_GRANTS": "false",
        "ALLOW_PROMOTION_CODES": "true",
        "RATE_LIMIT_PER_MINUTE": "7",
        "RATE_LIMIT_PER_HOUR": "70",
        "DELIVERY_QUEUE_URL": "https://sqs.test/delivery.fifo",
        "RETRY_QUEUE_URL": "https://sqs.test/retry",
        "DISPATCH_DEAD_LETTERS_URL": "https://sqs.test/dead-letters",
        "OUTBOUND_EVENT_BUS": "billing",
        "ALLOW_LOOPBACK_WEBHOOKS": "true",
    }.items():
        environment.setenv(name, value)
    assert load_settings() == settings.Settings(
        table_name="billing",
        stripe_secret_id="arn:secret",
        stripe_api_base="http://127.0.0.1:8001",
        deployment=Deployment("billing-prod", livemode=True, links_by_client_reference=True),
        allowed_origins=("https://app.example.com", "https://www.example.com"),
        access_policy=AccessPolicy(timedelta(days=3), pause_collection_grants=False),
        allow_promotion_codes=True,
        rate_limit_per_minute=7,
        rate_limit_per_hour=70,
        session=None,
        webhooks=WebhookSettings(
            delivery_queue_url="https://sqs.test/delivery.fifo",
            retry_queue_url="https://sqs.test/retry",
            dead_letters_url="https://sqs.test/dead-letters",
            event_bus="billing",
            allows_loopback=True,
        ),
    )


@pytest.mark.parametrize(("value", "limit"), [("1", 1), ("20000", 20_000), ("20001", 20_000), ("1000000000", 20_000)])
def test_rate_limit_is_at_most_the_templates_maximum(environment: pytest.MonkeyPatch, value: str, limit: int) -> None:
    """With a larger one, the limiter's item would exceed DynamoDB's 400 KB."""
    environment.setenv("RATE_LIMIT_PER_MINUTE", value)
    environment.setenv("RATE_LIMIT_PER_HOUR", value)
    found = load_settings()
    assert (found.rate_limit_per_minute, found.rate_limit_per_hour) == (limit, limit)


@pytest.mark.parametrize("name", ["RateLimitPerMinute", "RateLimitPerHour"])
def test_template_permits_rate_limits_up_to_the_maximum(name: str) -> None:
    parameter = template()["Parameters"][name]
    assert (parameter["MinValue"], parameter["MaxValue"]) == (1, settings.RATE_LIMIT_MAX)


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
