"""What a contract is made of, and the one function that fills its shapes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from billing.domain.credentials import ACTING_CREDENTIALS, CredentialKind
from billing.domain.errors import BillingError


class Operation(StrEnum):
    """What the product does for a caller; one function each in `functions/`."""

    SUBSCRIPTION = "subscription"
    CHECKOUT = "checkout"
    PORTAL = "portal"
    INVOICES = "invoices"
    USAGE = "usage"
    RECORD_USAGE = "record_usage"
    PLANS = "plans"
    STRIPE_WEBHOOK = "stripe_webhook"
    OPENAPI = "openapi"


@dataclass(frozen=True, slots=True)
class Field:
    """A place in a shape that a fact of that name fills. An `optional` one is left out where there is no such fact."""

    source: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ListField:
    """A list in a shape: the fact of that name is a list of facts, and each fills `shape`."""

    source: str
    shape: "ResponseTemplate"


type ResponseTemplate = Field | ListField | str | bool | int | Mapping[str, "ResponseTemplate"] | None


@dataclass(frozen=True, slots=True)
class Route:
    """Where an operation is served, and to whom.

    `input` maps the document's names of body fields (POST) or query parameters (GET) to the operation's own;
    `required` are those that the document requires. Where `needs` names a fact that is null, there is nothing to
    answer: the account never subscribed.
    """

    method: str
    path: str
    response: ResponseTemplate
    input: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    not_found_if_null: str | None = None
    credentials: frozenset[CredentialKind] = ACTING_CREDENTIALS

    @property
    def key(self) -> str:
        """API Gateway's route key."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class ErrorMapping:
    """What an error is in a contract. Without a `message` of the document's the error's own words are told."""

    status: int
    code: str
    message: str | None = None
    type: str | None = None
    doc_url: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """One API document. `refusals` is looked up by the error's class, then by the class it derives from.

    `account_parameter` is the path parameter that names the account, where the document has one: it must be the
    credential's own.
    """

    name: str
    base_path: str
    routes: Mapping[Operation, Route]
    error: ResponseTemplate
    error_mappings: Mapping[type[BillingError], ErrorMapping]
    internal_error: ErrorMapping
    account_parameter: str | None = None

    def error_mapping(self, error: type[Exception]) -> ErrorMapping:
        """The status and code of a class of errors; those of an internal error where the contract names none."""
        classes = (self.error_mappings.get(each) for each in error.__mro__ if issubclass(each, BillingError))
        return next((found for found in classes if found), self.internal_error)


def render(shape: ResponseTemplate, facts: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON the shape describes
    """The shape with its fields filled from `facts`. Raises KeyError where a fact is missing that is not optional."""
    if isinstance(shape, Field):
        return facts[shape.source]
    if isinstance(shape, ListField):
        return [render(shape.shape, each) for each in facts[shape.source]]
    if isinstance(shape, Mapping):
        return {
            key: render(inner, facts)
            for key, inner in shape.items()
            if not (isinstance(inner, Field) and inner.optional and inner.source not in facts)
        }
    return shape
