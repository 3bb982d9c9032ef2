"""POST portal: create a billing portal session."""

from pydantic import Field

from billing.api.declaration import URI, DeploymentValues, OperationDeclaration, object_of, string
from billing.api.request_models import RequestModel, Text
from billing.domain.errors import CustomerGone, NeverSubscribed, StripeRefused, StripeUnavailable


class PortalRequest(RequestModel):
    """Request body."""

    return_url: Text | None = Field(
        None,
        description="URL of the portal's return link, on an allowed origin. A relative URL is resolved against the "
        "first allowed origin.",
        json_schema_extra=DeploymentValues.RETURN_URLS.keyword,
    )


PORTAL = OperationDeclaration(
    name="portal",
    operation_id="createPortal",
    summary="Create a billing portal session",
    description="Returns the URL of Stripe's page for plan, payment method, invoices and cancellation.",
    request=PortalRequest,
    response=object_of(
        {"url": string("URL to redirect the browser to. The page is for this account only and expires.", **URI)}
    ),
    needs_billing_role=True,
    errors=(NeverSubscribed, CustomerGone, StripeRefused, StripeUnavailable),
)
