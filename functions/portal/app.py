"""POST portal: create a billing portal session."""

from billing.api.contracts.contract import Operation
from billing.api.operation import ApiRequest, ResponseData
from billing.api.request_models import PortalRequest
from billing.bootstrap import app


@app.operation(Operation.PORTAL, input=PortalRequest, loads_account=True)
def handler(request: ApiRequest) -> ResponseData:
    """Return the URL of Stripe's page for plan, payment method, invoices and cancellation."""
    return_url = request.return_url("return_url", default="/")
    customer_id = request.account.customer_with_history()
    return {"url": app.stripe_gateway.create_portal_session(customer_id, return_url, request.idempotency_key)}
