"""What callers may send, as models: one an operation that takes a body. Only functions that need it import pydantic."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

QUANTITY_MAX = 999_999  # Stripe's limit for a line item

Text = Annotated[str, Field(min_length=1, max_length=2048)]


class Input(BaseModel):
    """Strict: no coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CheckoutInput(Input):
    """A plan of the catalog or one of its Stripe prices, whichever the contract takes.

    URLs may be relative to the first allowed origin.
    """

    tier: Text | None = None
    price_id: Text | None = None
    success_url: Text | None = None
    cancel_url: Text | None = None
    quantity: Annotated[int, Field(ge=1, le=QUANTITY_MAX)] = 1


class PortalInput(Input):
    """Where the portal's way back leads."""

    return_url: Text | None = None
