"""Accounts with a credential of each kind, and the shared secret of session tokens, for the local world.

What `billing accounts create`, `billing keys create` and `billing sessions` do, in one process: each command on its
own would take a second to start.
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

PAYING_ROLE = "owner"
TOKEN_AGE_MAX = timedelta(days=7)
"""A world that is left running over a weekend still takes what it printed on Friday."""


def provision(deployed: Stack, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Create the accounts; what each authenticates with, by its name."""
    store_secret(deployed, secrets.token_urlsafe(32))
    return {name: _create_account(deployed, name) for name in names}


def _create_account(deployed: Stack, name: str) -> dict[str, str]:
    now, repository = datetime.now(UTC), deployed.repository()
    repository.create_account(Profile(name, email=f"billing@{name}.example", created=now))
    keys = {kind: create_key(repository, name, kind, livemode=deployed.livemode)[1] for kind in KeyKind}
    token = sign_token(deployed, name, f"user_{name}", PAYING_ROLE, now + TOKEN_AGE_MAX)
    return {**{f"{kind}_key": key for kind, key in keys.items()}, "session_token": token}


if __name__ == "__main__":
    print(json.dumps(provision(find_stack(os.environ["BILLING_STACK"], None), sys.argv[1:])))
