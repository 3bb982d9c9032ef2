"""`billing sessions`: the secrets that users' session tokens are signed with, where no public key checks them."""

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
from cli.deployment import Deployment, find_deployment
from cli.failures import refuse
from cli.options import DEFAULT_STACK, AccountId, AsJson, Region, Stack
from cli.output import reporting

SECRETS_MAX = 2  # the new one, and the one before while tokens that it signed are in use
HOURS_MAX = 7 * 24


def _user_id(value: str) -> str:
    if not is_printable(value):
        raise typer.BadParameter("a user id has 1 to 255 printable ASCII characters")
    return value


User = Annotated[str, typer.Option("--user", callback=_user_id, help="The user's id: the sub claim.")]
Role = Annotated[str | None, typer.Option("--role", help="The user's role, where the stack has a SessionRoleClaim.")]
ExpiresIn = Annotated[
    int, typer.Option("--expires-in", min=1, max=HOURS_MAX, metavar="HOURS", help="For how long the token counts.")
]

app = typer.Typer(help="Manage the shared secrets of session tokens.", no_args_is_help=True)


@app.command()
def add_secret(stack: Stack = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False) -> None:
    """Store the secret that your identity provider signs with (HS256): the newest, beside the one before it.

    The secret is read from standard input, or asked for on a terminal.
    """
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        secrets = store_secret(deployment, _typed_secret())
        facts = {"stack": deployment.stack_name, "shared_secrets": len(secrets)}
        output.result(facts, f"Stored. Tokens may be signed with {_counted(secrets)}.")
        output.note(f"Functions that have read the secrets before see the new one within {SECRETS_AGE_SECONDS_MAX} s.")
        if not deployment.session_claims.issuer:
            output.note("No session token counts before the stack is deployed with a SessionIssuer.")


@app.command()
def drop_previous(stack: Stack = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False) -> None:
    """End a rotation: only tokens that are signed with the newest secret count."""
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        secrets = load_secrets(deployment)
        _save(deployment, secrets[:1], instead_of=secrets)
        facts = {"stack": deployment.stack_name, "shared_secrets": len(secrets[:1])}
        output.result(facts, f"Tokens may be signed with {_counted(secrets[:1])}.")
        output.note(f"Functions that have read the secrets before forget it within {SECRETS_AGE_SECONDS_MAX} s.")


@app.command()
def token(
    account_id: AccountId,
    user: User,
    role: Role = None,
    expires_in: ExpiresIn = 12,
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Sign a session token, to try the API as one of an account's users. Not on a stack in live mode."""
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        expires = datetime.now(UTC) + timedelta(hours=expires_in)
        signed = sign_token(deployment, account_id, user, role, expires)
        output.note(f"A session token of {user}, of {account_id}, until {iso(expires)}.")
        output.result({"account_id": account_id, "user": user, "expires": iso(expires), "token": signed}, signed)


def load_secrets(deployment: Deployment) -> tuple[str, ...]:
    """The shared secrets that are stored, newest first. Raises CommandFailed."""
    try:
        return read_session_secrets(deployment.load_secret(deployment.session_secret_arn))
    except ConfigurationMissing as error:
        refuse("session_secret_unreadable", f"{error}. Set {deployment.session_secret_arn} to {{}} to begin anew.")


def store_secret(deployment: Deployment, secret: str) -> tuple[str, ...]:
    """Put a secret before the one that is newest so far; what is stored now. Raises CommandFailed."""
    if len(secret.encode()) < SHARED_SECRET_BYTES_MIN:
        refuse(
            "session_secret_short",
            f"The secret has less than the {SHARED_SECRET_BYTES_MIN} bytes that HS256 asks for (RFC 7518, 3.2).",
        )
    before = load_secrets(deployment)
    secrets = (secret, *(each for each in before if each != secret))[:SECRETS_MAX]
    _save(deployment, secrets, instead_of=before)
    return secrets


def sign_token(deployment: Deployment, account_id: str, user: str, role: str | None, expires: datetime) -> str:
    """A session token as the stack's own identity provider would sign it. Raises CommandFailed."""
    if deployment.livemode:
        refuse("sessions_live", f"{deployment.stack_name} is in live mode: only your identity provider signs there.")
    names = deployment.session_claims
    if not names.issuer:
        refuse("sessions_off", f"{deployment.stack_name} takes no session tokens: deploy it with a SessionIssuer.")
    if role is not None and not names.role:
        refuse("sessions_no_role", f"{deployment.stack_name} reads no role: deploy it with a SessionRoleClaim.")
    secrets = load_secrets(deployment)
    if not secrets:
        refuse(
            "session_secret_missing",
            "There is nothing to sign with: store a secret with `billing sessions add-secret`.",
        )
    claims: dict[str, Any] = {
        "iss": names.issuer,
        "sub": user,
        "exp": int(expires.timestamp()),
        names.account: account_id,
    }
    if names.audience:
        claims["aud"] = names.audience
    if role is not None:
        claims[names.role] = role
    return _signed(claims, secrets[0])


def _signed(claims: dict[str, Any], secret: str) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    message = ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{message}.{_encoded(hmac.digest(secret.encode(), message.encode(), 'sha256'))}"


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def _save(deployment: Deployment, secrets: Sequence[str], *, instead_of: Sequence[str]) -> None:
    if secrets != instead_of:
        deployment.save_secret(deployment.session_secret_arn, {"shared_secrets": list(secrets)})


def _typed_secret() -> str:
    """A secret is never an argument: those show in process lists and shell histories."""
    if sys.stdin.isatty():
        return str(typer.prompt("Shared secret", hide_input=True, err=True))
    return sys.stdin.read().rstrip("\r\n")


def _counted(secrets: Sequence[str]) -> str:
    return ("no shared secret", "one shared secret", "either of two shared secrets")[len(secrets)]
