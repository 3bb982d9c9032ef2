"""Fixtures of the function tests: the tests of outbound events process real events."""

from tests.functions.conftest import deployment, stripe_secret_id
from tests.functions.webhook_api.conftest import delivery_queue

__all__ = ["delivery_queue", "deployment", "stripe_secret_id"]
