"""Secrets Manager: the deployment's Stripe secrets and the shared secrets of session tokens.

A secret is stored in memory for five minutes, so a rotation needs no deployment. If a refresh fails, the stored value
is used until it is one hour old.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from billing.domain.errors import ConfigurationMissing, SecretsUnavailable
from billing.telemetry import count, logger

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager.client import SecretsManagerClient

SECRETS_AGE_SECONDS_MAX = 300
"""Age at which a secret is read again."""
SECRETS_REREAD_SECONDS_MIN = 5
"""Shortest time between two reads of one secret, so that invalid requests cause no load on Secrets Manager."""
SECRETS_OUTAGE_SECONDS_MAX = 3600
"""Age up to which a secret is used while Secrets Manager does not answer."""
SHARED_SECRET_BYTES_MIN = 32
"""An HS256 key is at least as long as the hash output (RFC 7518, section 3.2)."""
STRIPE_KEY = re.compile(r"[rs]k_(test|live)_\S+")
"""A secret or restricted API key and its mode: https://docs.stripe.com/keys."""

# A wrong permission, a missing secret or a disabled key needs an operator; every other failure is temporary.
CONFIGURATION_ERRORS = frozenset(
    {"AccessDeniedException", "DecryptionFailure", "InvalidRequestException", "ResourceNotFoundException"}
)


@dataclass(frozen=True, slots=True)
class StripeSecrets:
    """Secrets that `billing setup` stored.

    Attributes:
        api_key: Stripe API key.
        webhook_secrets: Webhook signing secrets: one, or two during a rotation.
        portal_configuration: Id of the default portal configuration; None for the Stripe account's default.
        portal_configurations: Names and ids of all portal configurations.
    """

    api_key: str
    webhook_secrets: tuple[str, ...]
    portal_configuration: str | None = None
    portal_configurations: tuple[tuple[str, str], ...] = ()

    def portal_configuration_of(self, name: str) -> str | None:
        """Return the id of a portal configuration; the default one if `billing setup` has not stored this one yet."""
        return dict(self.portal_configurations).get(name, self.portal_configuration)

    def __repr__(self) -> str:
        """Return a representation without the secrets, which would otherwise end up in logs and tracebacks."""
        return f"StripeSecrets({len(self.webhook_secrets)} webhook secrets)"


@dataclass(slots=True)
class CachedSecret[T]:
    """One secret of Secrets Manager, parsed and stored in memory.

    Attributes:
        parse: Converts the stored JSON object; the argument is None if the secret holds anything else.
    """

    client: "Callable[[], SecretsManagerClient]"
    secret_id: str
    parse: Callable[[Mapping[str, object] | None], T]
    _value: T | None = None
    _read_at: float = 0.0
    _retry_at: float = 0.0

    def get(self, age_seconds_max: int = SECRETS_AGE_SECONDS_MAX) -> T:
        """Return the secret, read again if the stored value is older than `age_seconds_max`.

        Raises:
            ConfigurationMissing: The secret does not exist, may not be read or does not hold what it should.
            SecretsUnavailable: Secrets Manager does not answer and no recent value is stored.
        """
        now = time.monotonic()
        if self._value is not None and (now - self._read_at < age_seconds_max or now < self._retry_at):
            return self._value
        try:
            self._value, self._read_at = self.parse(read_secret(self.client(), self.secret_id)), now
        except SecretsUnavailable:
            count("SecretRefreshFailed")
            if self._value is None or now - self._read_at >= SECRETS_OUTAGE_SECONDS_MAX:
                raise
            logger().warning("Secret not refreshed, stored value used", secret_id=self.secret_id)
            self._retry_at = now + SECRETS_REREAD_SECONDS_MIN
        return self._value


def read_secret(client: "SecretsManagerClient", secret_id: str) -> Mapping[str, object] | None:
    """Return the JSON object that a secret holds; None if it holds anything else.

    Raises:
        ConfigurationMissing: The secret does not exist or may not be read.
        SecretsUnavailable: Secrets Manager does not answer.
    """
    try:
        answer = client.get_secret_value(SecretId=secret_id)
    except BotoCoreError as error:
        raise SecretsUnavailable from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in CONFIGURATION_ERRORS:
            raise ConfigurationMissing(f"The secret {secret_id} cannot be read: {code}") from error
        raise SecretsUnavailable from error
    try:
        stored = json.loads(answer["SecretString"])
    except (KeyError, ValueError):
        return None
    return stored if isinstance(stored, dict) else None


def parse_stripe_secrets(stored: Mapping[str, object] | None, mode: str) -> StripeSecrets:
    """Parse the Stripe secret of a deployment in `mode` ("test" or "live").

    Raises:
        ConfigurationMissing: A value is missing, or the API key is of the other mode. With such a key every event would
            be recorded as out of scope.
    """
    if stored is None:
        raise ConfigurationMissing("The Stripe secret holds no JSON object: run `billing setup`")
    secrets = read_stripe_secrets(stored)
    key = STRIPE_KEY.match(secrets.api_key)
    if key and key[1] != mode:
        raise ConfigurationMissing(
            f"The stored Stripe key is of {key[1]} mode, and STRIPE_MODE is {mode}: "
            f"run `billing setup` with a {mode} key, or deploy with StripeMode={key[1]}"
        )
    return secrets


def read_stripe_secrets(value: Mapping[str, object]) -> StripeSecrets:
    """Return the Stripe secrets from their JSON object.

    Raises:
        ConfigurationMissing: `billing setup` has not stored the API key or a webhook secret yet.
    """
    api_key, webhook_secrets = value.get("api_key"), value.get("webhook_secrets")
    if not isinstance(api_key, str) or not api_key:
        raise ConfigurationMissing("The Stripe secret holds no api_key: run `billing setup`")
    if not isinstance(webhook_secrets, list) or not webhook_secrets or not all(webhook_secrets):
        raise ConfigurationMissing("The Stripe secret holds no webhook_secrets: run `billing setup`")
    portal_configuration, by_name = value.get("portal_configuration"), value.get("portal_configurations")
    return StripeSecrets(
        api_key,
        tuple(str(secret) for secret in webhook_secrets),
        str(portal_configuration) if portal_configuration else None,
        tuple((name, str(each)) for name, each in by_name.items()) if isinstance(by_name, dict) else (),
    )


def read_session_secrets(value: Mapping[str, object] | None) -> tuple[str, ...]:
    """Return the shared secrets of session tokens (HS256) from their JSON object, newest first.

    Raises:
        ConfigurationMissing: The value is not `{"shared_secrets": [...]}`, or a secret is too short.
    """
    found = None if value is None else value.get("shared_secrets", [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ConfigurationMissing('The session secret must hold {"shared_secrets": ["…"]}')
    if any(len(secret.encode()) < SHARED_SECRET_BYTES_MIN for secret in found):
        raise ConfigurationMissing(f"A shared secret has fewer than {SHARED_SECRET_BYTES_MIN} bytes")
    return tuple(found)
