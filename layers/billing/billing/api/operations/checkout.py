"""POST checkout: create a Checkout Session."""

from pydantic import Field

from billing.api.declaration import URI, DeploymentValues, OperationDeclaration, object_of, string
from billing.api.request_models import JsonInteger, RequestModel, Text
from billing.domain.errors import StripeRefused, StripeUnavailable, SubscriptionExists

QUANTITY_MAX = 999_999
"""Stripe's limit for a line item."""


class CheckoutRequest(RequestModel):
    """Request body. A contract accepts either `price_id`, or `tier` with `interval` and `currency`."""

    tier: Text | None = Field(
        None, description="Plan to subscribe to.", json_schema_extra=DeploymentValues.PLANS_FOR_SALE.keyword
    )
    price_id: Text | None = Field(
        None,
        description="Price of the catalog: its lookup key or its Stripe id.",
        json_schema_extra=DeploymentValues.PRICES.keyword,
    )
    interval: Text | None = Field(
        None,
        description="Billing interval, for a plan with several prices. By default that of the plan's first price.",
        json_schema_extra=DeploymentValues.INTERVALS.keyword,
    )
    currency: Text | None = Field(
        None,
        description="Currency, for a plan with prices in several. By default that of the plan's first price.",
        json_schema_extra=DeploymentValues.CURRENCIES.keyword,
    )
    success_url: Text | None = Field(
        None,
        description="URL to redirect to after payment, on an allowed origin. A relative URL is resolved against the "
        "first allowed origin.",
        json_schema_extra=DeploymentValues.RETURN_URLS.keyword,
    )
    cancel_url: Text | None = Field(
        None,
        description="URL to redirect to if the customer does not pay, on an allowed origin. A relative URL is resolved "
        "against the first allowed origin.",
        json_schema_extra=DeploymentValues.RETURN_URLS.keyword,
    )
    quantity: JsonInteger = Field(
        1, ge=1, le=QUANTITY_MAX, description="Number of seats. More than 1 requires a price per seat."
    )


CHECKOUT = OperationDeclaration(
    name="checkout",
    operation_id="createCheckout",
    summary="Create a Checkout Session",
    description="Returns the URL of a Stripe-hosted page on which the account can pay. While the page is open, an "
    "identical request returns the same page. A different request closes it and opens another.",
    request=CheckoutRequest,
    response=object_of(
        {"url": string("URL to redirect the browser to. The page is for this account only and expires.", **URI)}
    ),
    needs_billing_role=True,
    errors=(SubscriptionExists, StripeRefused, StripeUnavailable),
)
