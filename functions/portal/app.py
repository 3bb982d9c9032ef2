"""POST portal: create a billing portal session."""

from billing.api.endpoint import ResponseData
from billing.api.operations.portal import PORTAL
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app


@app.operation(PORTAL, loads_account=True)
def handler(request: ApiRequest) -> ResponseData:
    """Return the URL of Stripe's page for plan, payment method, invoices and cancellation."""
    return_url = request.return_url("return_url", default="/")
    return {"url": app.portal().open(request.account, return_url, request.idempotency_key)}
