"""The deployment of the function tests, seen through each contract."""

from tests.functions.conftest import deployment, stripe_secret_id

__all__ = ["deployment", "stripe_secret_id"]
