"""Open the billing portal."""

from billing.adapters.stripe_gateway import connect_payments
from billing.api.contracts.contract import Operation
from billing.api.operation import Call, Facts, operation
from billing.api.request_models import PortalInput


@operation(Operation.PORTAL, input=PortalInput, loads_account=True)
def handler(call: Call) -> Facts:
    """Open Stripe's own page for plan, payment method, invoices and cancellation."""
    return_url = call.return_url("return_url", default="/")
    customer_id = call.account.customer_with_history()
    return {"url": connect_payments().create_portal_session(customer_id, return_url, call.idempotency_key)}
