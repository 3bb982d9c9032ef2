"""A Stripe billing backend: contracts in front, Stripe behind, one DynamoDB table between.

Imports point one way: domain ← stripe_events ← adapters ← services, api ← bootstrap ← functions, cli.
"""

__version__ = "0.2.0"
