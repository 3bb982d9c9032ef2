"""Stripe API key of a command."""

import os
import sys
from collections.abc import Mapping
from typing import Any

import typer

from billing.adapters.secrets import STRIPE_KEY
from cli.errors import CommandFailed
from cli.stack import Stack


def choose_stripe_key(stack: Stack, stored: Mapping[str, Any]) -> str:
    """Return STRIPE_API_KEY, else the stored key, else the key that the operator types.

    Raises:
        CommandFailed: No key is set, or the key is not one of the stack's mode.
    """
    key = os.environ.get("STRIPE_API_KEY") or stored.get("api_key") or _prompt()
    match = STRIPE_KEY.fullmatch(key)
    if match is None:
        raise CommandFailed(
            "stripe_key", "The Stripe key must be a secret key (sk_test_…, sk_live_…) or a restricted key (rk_…)."
        )
    mode = "live" if stack.livemode else "test"
    if match[1] != mode:
        raise CommandFailed(
            "stripe_mode",
            f"The Stripe key is a {match[1]} mode key, and {stack.name} is in {mode} mode: "
            f"use a {mode} key, or deploy with StripeMode={match[1]}.",
        )
    return key


def _prompt() -> str:
    if not sys.stdin.isatty():
        raise CommandFailed(
            "stripe_key_missing", "No Stripe key is set: put it into the environment variable STRIPE_API_KEY."
        )
    return str(typer.prompt("Stripe secret key", hide_input=True, err=True))
