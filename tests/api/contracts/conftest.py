"""Fixtures of the function tests: the contract tests call the same functions."""

from tests.functions.conftest import deployment, running_stripe, simulator, stripe_client, stripe_secret_id

__all__ = ["deployment", "running_stripe", "simulator", "stripe_client", "stripe_secret_id"]
