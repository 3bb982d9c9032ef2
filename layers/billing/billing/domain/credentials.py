"""Credentials of API requests."""

from dataclasses import dataclass
from enum import StrEnum


class CredentialKind(StrEnum):
    """Kind of an `Authorization: Bearer …` credential."""

    SECRET_KEY = "secret_key"  # noqa: S105 - its name
    PUBLISHABLE_KEY = "publishable_key"
    SESSION_TOKEN = "session_token"  # noqa: S105 - its name


ANY_CREDENTIAL = frozenset(CredentialKind)
# Credentials that act for an account. A publishable key is public and acts for none.
ACTING_CREDENTIALS = frozenset({CredentialKind.SECRET_KEY, CredentialKind.SESSION_TOKEN})
SECRET_KEY_ONLY = frozenset({CredentialKind.SECRET_KEY})
NO_CREDENTIAL: frozenset[CredentialKind] = frozenset()


@dataclass(frozen=True, slots=True)
class Credential:
    """A valid credential.

    Attributes:
        kind: Kind of the credential.
        account_id: Account that the credential gives access to.
        subject: User or key whose requests the rate limit counts.
        can_manage_billing: True if the credential may open checkout and the portal.
    """

    kind: CredentialKind
    account_id: str
    subject: str
    can_manage_billing: bool = True
