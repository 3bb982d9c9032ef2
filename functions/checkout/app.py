"""POST checkout: create a Checkout Session."""

from billing.api.contracts.contract import Operation
from billing.api.operation import ApiRequest, ResponseData
from billing.api.request_models import CheckoutRequest
from billing.bootstrap import app
from billing.services.checkout import CheckoutParams


@app.operation(Operation.CHECKOUT, input=CheckoutRequest)
def handler(request: ApiRequest) -> ResponseData:
    """Return the URL of a Stripe-hosted page on which the account can pay for a plan."""
    params = CheckoutParams(
        tier=request.input.tier,
        price_id=request.input.price_id,
        quantity=request.input.quantity,
        success_url=request.return_url("success_url", default="/?checkout=success"),
        cancel_url=request.return_url("cancel_url", default="/?checkout=cancelled"),
    )
    return {"url": app.checkout().open(request.account_id, params, request.now)}
