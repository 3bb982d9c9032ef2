"""Take me to checkout."""

from billing.adapters.repository import open_store
from billing.adapters.stripe_gateway import connect_payments
from billing.api.contracts.contract import Operation
from billing.api.operation import Call, Facts, operation
from billing.api.request_models import CheckoutInput
from billing.catalog import load_catalog
from billing.services.checkout import Checkout, CheckoutRequest
from billing.settings import load_settings


@operation(Operation.CHECKOUT, input=CheckoutInput)
def handler(call: Call) -> Facts:
    """Open a hosted page on which the account can pay for a plan."""
    settings = load_settings()
    request = CheckoutRequest(
        tier=call.input.tier,
        price_id=call.input.price_id,
        quantity=call.input.quantity,
        success_url=call.return_url("success_url", default="/?checkout=success"),
        cancel_url=call.return_url("cancel_url", default="/?checkout=cancelled"),
    )
    checkout = Checkout(
        open_store(), connect_payments(), load_catalog(), settings.past_due_grace, settings.allow_promotion_codes
    )
    return {"url": checkout.open(call.account_id, request, call.now)}
