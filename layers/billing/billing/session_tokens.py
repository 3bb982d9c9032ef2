"""Session tokens: the JWTs (RFC 7519) with which a product's own users ask. Anything doubtful does not count."""

from dataclasses import dataclass
from datetime import datetime

from billing.domain.credentials import Credential
from billing.domain.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class SessionTokens:
    """What a deployment takes for a session token."""

    def check(self, token: str, now: datetime) -> Credential:
        """The user's credential. Raises Unauthenticated; IdentityProviderUnavailable where it could not be checked."""
        raise Unauthenticated


def open_session_tokens() -> SessionTokens | None:
    """What this deployment takes for a session token; None where it takes none."""
    return None
