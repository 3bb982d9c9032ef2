"""Open the billing portal."""

from billing.contracts.contract import Operation
from billing.endpoint import Call, Facts, operation
from billing.inputs import PortalInput
from billing.payments import connect_payments


@operation(Operation.PORTAL, input=PortalInput, loads_account=True)
def handler(call: Call) -> Facts:
    """Open Stripe's own page for plan, payment method, invoices and cancellation."""
    return_url = call.return_url("return_url", default="/")
    customer_id = call.account.customer_with_history()
    return {"url": connect_payments().create_portal_session(customer_id, return_url, call.idempotency_key)}
