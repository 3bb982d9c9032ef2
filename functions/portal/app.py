"""POST portal: create a billing portal session."""

from billing.api.endpoint import ResponseData
from billing.api.operations.portal import PORTAL
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app
from billing.domain.portal import variant_for


@app.operation(PORTAL, loads_account=True)
def handler(request: ApiRequest) -> ResponseData:
    """Return the URL of Stripe's page for plan, payment method, invoices and cancellation."""
    return_url = request.return_url("return_url", default="/")
    variant = variant_for(request.account.subscriptions, app.catalog)
    configuration = app.stripe_secrets.get().portal_configuration_of(variant.name)
    return {"url": app.portal().open(request.account, return_url, request.idempotency_key, configuration)}
