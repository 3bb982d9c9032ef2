"""Parts of a contract: routes, field names, envelopes and error codes, all of them data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from billing.api.contracts.error_table import ErrorMapping, ErrorRow, resolve_error
from billing.domain.credentials import ANY_CREDENTIAL, CredentialKind
from billing.domain.errors import BillingError

# --- Field names ------------------------------------------------------------------------------------------------------


def snake_case(name: str) -> str:
    """Return an operation's field name as it is."""
    return name


def camel_case(name: str) -> str:
    """Return `period_end` as `periodEnd`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


@dataclass(frozen=True, slots=True)
class RequestFields:
    """Differences between a route's request fields and the operation's request model.

    All names are the operation's own. Fields of nested models keep their names.

    Attributes:
        omit: Fields that the route does not accept.
        rename: The contract's names of fields, where they are not the operation's names in the contract's case.
        required: Required fields, besides those that the model requires.
    """

    omit: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResponseFields:
    """Differences between a route's response fields and the operation's response schema.

    `omit` and `rename` take the operation's own names; a field of a list's items is named like "invoices.id".

    Attributes:
        omit: Fields that the response does not have.
        rename: The contract's names of fields, where they are not the operation's names in the contract's case.
        constants: Fields with a fixed value, in front of the others.
    """

    omit: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str | bool | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """Method and path of an operation in a contract.

    Attributes:
        not_found_if_null: Response field that is null if the account never subscribed; the response is then an error.
    """

    method: str
    path: str
    request: RequestFields = RequestFields()
    response: ResponseFields = ResponseFields()
    not_found_if_null: str | None = None

    @property
    def key(self) -> str:
        """API Gateway's route key."""
        return f"{self.method} {self.path}"


# --- Envelopes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """Placeholder in an envelope for the value of that name. If `optional`, it is left out if there is no value."""

    source: str
    optional: bool = False


type Envelope = Field | str | bool | int | Mapping[str, "Envelope"] | None

DATA = Field("data")
"""Placeholder for the response data. By itself, it is the envelope of a contract without one."""

ERROR_ONLY: Envelope = {
    "error": {
        "code": Field("code"),
        "message": Field("message"),
        "details": Field("details", optional=True),
    }
}


def render(envelope: Envelope, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Fill an envelope's placeholders. Raises KeyError if the value of a required one is missing."""
    if isinstance(envelope, Field):
        return values[envelope.source]
    if isinstance(envelope, Mapping):
        return {
            name: render(inner, values)
            for name, inner in envelope.items()
            if not (isinstance(inner, Field) and inner.optional and inner.source not in values)
        }
    return envelope


# --- Contracts --------------------------------------------------------------------------------------------------------


NO_DIFFERENCES = ErrorRow()


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """An API document as data.

    Attributes:
        routes: By name of the operation.
        case: Converts the operations' field names to the contract's.
        envelope: Body of a successful response; placeholder: `data`.
        error_envelope: Body of an error; placeholders: `code`, `message`, `type`, `doc_url`, `request_id`,
            `timestamp`, `details`.
        errors: What differs from `DEFAULT_ERRORS`. A row for `BillingError` applies to all errors.
        internal_error: What differs from `INTERNAL_ERROR`.
        credentials: Kinds of credentials that the contract accepts, of those that an operation accepts.
        account_parameter: Path parameter with the account's id; it must be the credential's account.
    """

    name: str
    base_path: str
    routes: Mapping[str, Route]
    case: Callable[[str], str] = snake_case
    envelope: Envelope = DATA
    error_envelope: Envelope = field(default_factory=lambda: ERROR_ONLY)
    errors: Mapping[type[BillingError], ErrorRow] = field(default_factory=dict)
    internal_error: ErrorRow = NO_DIFFERENCES
    credentials: frozenset[CredentialKind] = ANY_CREDENTIAL
    account_parameter: str | None = None

    def error_mapping(self, error: type[Exception]) -> ErrorMapping:
        """Return the status and body of an error in this contract."""
        return resolve_error(error, self.errors, self.internal_error)
