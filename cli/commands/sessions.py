"""`billing sessions`: shared secrets that sign the users' session tokens with HS256."""

import base64
import hmac
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from billing.adapters.secrets import SECRETS_AGE_SECONDS_MAX, SHARED_SECRET_BYTES_MIN, read_session_secrets
from billing.api.session_tokens import is_printable
from billing.domain.errors import ConfigurationMissing
from billing.domain.timestamps import iso
from cli.errors import CommandFailed
from cli.options import DEFAULT_STACK, AccountId, AsJson, Region, StackName
from cli.output import command_output
from cli.stack import Stack, find_stack

SECRETS_MAX = 2
"""The new secret, and the previous one while its tokens are in use."""
HOURS_MAX = 7 * 24


def _check_user_id(value: str) -> str:
    if not is_printable(value):
        raise typer.BadParameter("a user id has 1 to 255 printable ASCII characters")
    return value


UserId = Annotated[
    str, typer.Option("--user", metavar="USER", callback=_check_user_id, help="Id of the user: the claim `sub`.")
]
Role = Annotated[
    str | None, typer.Option("--role", metavar="ROLE", help="Role of the user. The stack needs a SessionRoleClaim.")
]
ExpiresIn = Annotated[
    int, typer.Option("--expires-in", min=1, max=HOURS_MAX, metavar="HOURS", help="Lifetime of the token.")
]

app = typer.Typer(help="Manage the shared secrets of session tokens.", no_args_is_help=True)


@app.command()
def add_secret(stack: StackName = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False) -> None:
    """Store a secret with which your identity provider signs session tokens (HS256). The previous one stays valid.

    The secret is read from standard input. On a terminal, the command prompts for it.
    """
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        secrets = store_secret(deployed, _read_typed_secret())
        data = {"stack": deployed.name, "shared_secrets": len(secrets)}
        output.result(data, f"Stored the secret. {_describe(secrets)}")
        output.note(f"Running functions load it within {SECRETS_AGE_SECONDS_MAX} s.")
        if not deployed.session_claims.issuer:
            output.note("Session tokens are not accepted until the stack is deployed with a SessionIssuer.")


@app.command()
def drop_previous(stack: StackName = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False) -> None:
    """End a rotation: keep only the newest secret. Tokens signed with the previous secret become invalid."""
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        secrets = load_secrets(deployed)
        _save(deployed, secrets[:1], previous=secrets)
        data = {"stack": deployed.name, "shared_secrets": len(secrets[:1])}
        output.result(data, _describe(secrets[:1]))
        output.note(f"Running functions drop the previous secret within {SECRETS_AGE_SECONDS_MAX} s.")


@app.command()
def token(
    account_id: AccountId,
    user: UserId,
    role: Role = None,
    expires_in: ExpiresIn = 12,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Sign a session token for tests of the API as a user of an account. Not available in live mode."""
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        expires = datetime.now(UTC) + timedelta(hours=expires_in)
        signed = sign_token(deployed, account_id, user, role, expires)
        output.note(f"Session token of the user {user} of {account_id}, valid until {iso(expires)}.")
        output.result({"account_id": account_id, "user": user, "expires": iso(expires), "token": signed}, signed)


def load_secrets(stack: Stack) -> tuple[str, ...]:
    """Return the stored shared secrets, newest first. Raises CommandFailed."""
    try:
        return read_session_secrets(stack.load_secret(stack.session_secret_arn))
    except ConfigurationMissing as error:
        message = f"{error}. Set {stack.session_secret_arn} to {{}}, then run `billing sessions add-secret`."
        raise CommandFailed("session_secret_unreadable", message) from error


def store_secret(stack: Stack, secret: str) -> tuple[str, ...]:
    """Store a secret as the newest one. Returns the stored secrets. Raises CommandFailed."""
    if len(secret.encode()) < SHARED_SECRET_BYTES_MIN:
        raise CommandFailed(
            "session_secret_short",
            f"The secret has fewer than {SHARED_SECRET_BYTES_MIN} bytes, the minimum of HS256 (RFC 7518, 3.2): "
            "generate a longer one, for example with `openssl rand -base64 48`.",
        )
    previous = load_secrets(stack)
    secrets = (secret, *(each for each in previous if each != secret))[:SECRETS_MAX]
    _save(stack, secrets, previous=previous)
    return secrets


def sign_token(stack: Stack, account_id: str, user: str, role: str | None, expires: datetime) -> str:
    """Return a session token with the claims that the stack requires. Raises CommandFailed."""
    claim_names = stack.session_claims
    secrets = _signing_secrets(stack, role)
    claims: dict[str, Any] = {
        "iss": claim_names.issuer,
        "sub": user,
        "exp": int(expires.timestamp()),
        claim_names.account: account_id,
    }
    if claim_names.audience:
        claims["aud"] = claim_names.audience
    if role is not None:
        claims[claim_names.role] = role
    return _sign(claims, secrets[0])


def _signing_secrets(stack: Stack, role: str | None) -> tuple[str, ...]:
    """Return the shared secrets. Raises CommandFailed if the stack would not accept a token that they sign."""
    if stack.livemode:
        raise CommandFailed(
            "sessions_live", f"{stack.name} is in live mode: get a session token from your identity provider."
        )
    if not stack.session_claims.issuer:
        raise CommandFailed(
            "sessions_off", f"{stack.name} accepts no session tokens: deploy it with the parameter SessionIssuer."
        )
    if role is not None and not stack.session_claims.role:
        raise CommandFailed(
            "sessions_no_role",
            f"{stack.name} reads no role from session tokens: deploy it with the parameter SessionRoleClaim.",
        )
    secrets = load_secrets(stack)
    if not secrets:
        raise CommandFailed(
            "session_secret_missing", "No shared secret is stored: store one with `billing sessions add-secret`."
        )
    return secrets


def _sign(claims: dict[str, Any], secret: str) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    message = ".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{message}.{_base64url(hmac.digest(secret.encode(), message.encode(), 'sha256'))}"


def _base64url(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def _save(stack: Stack, secrets: Sequence[str], *, previous: Sequence[str]) -> None:
    if secrets != previous:
        stack.save_secret(stack.session_secret_arn, {"shared_secrets": list(secrets)})


def _read_typed_secret() -> str:
    """Return the secret from stdin. As an argument it would be visible in process lists and shell histories."""
    if sys.stdin.isatty():
        return str(typer.prompt("Shared secret", hide_input=True, err=True))
    return sys.stdin.read().rstrip("\r\n")


def _describe(secrets: Sequence[str]) -> str:
    return (
        "The stack has no shared secret.",
        "Tokens signed with the newest secret are accepted.",
        "Tokens signed with the newest or the previous secret are accepted.",
    )[len(secrets)]
