"""Accounts of the local environment, with a credential of each kind, and the shared secret of session tokens.

Equivalent to `billing accounts create`, `billing keys create` and `billing sessions`. One process replaces several
commands, which take a second each to start.
"""

import json
import os
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from billing.api.authentication import KeyKind
from billing.domain.accounts import Profile
from cli.commands.keys import create_key
from cli.commands.sessions import sign_token, store_secret
from cli.stack import Stack, find_stack

BILLING_ROLE = "owner"
TOKEN_AGE_MAX = timedelta(days=7)
"""Long enough for an environment that runs over a weekend."""


def provision(stack: Stack, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Create the accounts. Returns the credentials of each account by name."""
    store_secret(stack, secrets.token_urlsafe(32))
    return {name: _create_account(stack, name) for name in names}


def _create_account(stack: Stack, name: str) -> dict[str, str]:
    now, repository = datetime.now(UTC), stack.repository()
    repository.create_account(Profile(name, email=f"billing@{name}.example", created=now))
    keys = {kind: create_key(repository, name, kind, livemode=stack.livemode)[1] for kind in KeyKind}
    token = sign_token(stack, name, f"user_{name}", BILLING_ROLE, now + TOKEN_AGE_MAX)
    return {**{f"{kind}_key": key for kind, key in keys.items()}, "session_token": token}


if __name__ == "__main__":
    print(json.dumps(provision(find_stack(os.environ["BILLING_STACK"], None), sys.argv[1:])))
