"""What callers may send, as models: one an operation that takes input. Only functions that need it import pydantic."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

QUANTITY_MAX = 999_999  # Stripe's limit for a line item
MEASUREMENTS_MAX = 100
MEASURED_MAX = 10**12  # thousands of them add up to what JSON readers still hold exactly: 2**53
INVOICES_MAX = 100
CURSOR_LENGTH_MAX = 512


def _whole(value: object) -> object:
    """JSON has one kind of number: 1.0 is the integer 1, in JSON Schema too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digits(value: object) -> object:
    """A number in a query string, in its one usual form."""
    usual = re.fullmatch(r"0|-?[1-9][0-9]{0,17}", value, re.ASCII) if isinstance(value, str) else None
    return int(usual[0]) if usual else value


JsonInteger = BeforeValidator(_whole)
Text = Annotated[str, Field(min_length=1, max_length=2048)]


class RequestModel(BaseModel):
    """Strict: no coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CheckoutRequest(RequestModel):
    """A plan of the catalog or one of its Stripe prices, whichever the contract takes.

    URLs may be relative to the first allowed origin.
    """

    tier: Text | None = None
    price_id: Text | None = None
    success_url: Text | None = None
    cancel_url: Text | None = None
    quantity: Annotated[int, Field(ge=1, le=QUANTITY_MAX), JsonInteger] = 1


class PortalRequest(RequestModel):
    """Where the portal's way back leads."""

    return_url: Text | None = None


class InvoicesRequest(RequestModel):
    """Which invoices: so many of a status, after those of an earlier page."""

    limit: Annotated[int, Field(ge=1, le=INVOICES_MAX), BeforeValidator(_digits)] = 10
    status: Literal["paid", "open", "void", "uncollectible"] | None = None
    cursor: Annotated[str, Field(min_length=1, max_length=CURSOR_LENGTH_MAX)] | None = None


class MeasurementRequest(RequestModel):
    """What was used of a metric: more of a counter, all of a gauge. `id` makes it count once; `consume` asks first."""

    id: Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]
    metric: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    value: Annotated[int, Field(ge=0, le=MEASURED_MAX), JsonInteger]
    action: Literal["track", "consume"] = "track"


class RecordUsageRequest(RequestModel):
    """What was used, in the order in which it is to be decided on."""

    measurements: Annotated[list[MeasurementRequest], Field(min_length=1, max_length=MEASUREMENTS_MAX)]
