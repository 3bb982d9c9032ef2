"""Who may ask for what."""

from dataclasses import dataclass
from enum import StrEnum


class CredentialKind(StrEnum):
    """What may stand in an `Authorization: Bearer …` header."""

    SECRET_KEY = "secret_key"  # noqa: S105 - its name
    PUBLISHABLE_KEY = "publishable_key"
    SESSION_TOKEN = "session_token"  # noqa: S105 - its name


ANY_CREDENTIAL = frozenset(CredentialKind)
ACTING_CREDENTIALS = frozenset({CredentialKind.SECRET_KEY, CredentialKind.SESSION_TOKEN})
SECRET_KEY_ONLY = frozenset({CredentialKind.SECRET_KEY})
NO_CREDENTIAL: frozenset[CredentialKind] = frozenset()


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that counts, and the account it acts for.

    `subject` is the user or key that rate limits count. `may_pay`: whether it may open checkout and
    the portal.
    """

    kind: CredentialKind
    account_id: str
    subject: str
    can_manage_billing: bool = True
