"""Fixtures of the function tests: the contract tests call the same functions."""

from tests.functions.conftest import deployment, running_stripe, simulator, stripe_client, stripe_secret_id
from tests.functions.webhook_api.conftest import delivery_queue

__all__ = ["delivery_queue", "deployment", "running_stripe", "simulator", "stripe_client", "stripe_secret_id"]
