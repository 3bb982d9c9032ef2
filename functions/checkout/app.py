"""POST checkout: create a Checkout Session."""

from billing.api.endpoint import ResponseData
from billing.api.operations.checkout import CHECKOUT
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app
from billing.services.checkout import CheckoutParams


@app.operation(CHECKOUT)
def handler(request: ApiRequest) -> ResponseData:
    """Return the URL of a Stripe-hosted page on which the account can pay for a plan."""
    params = CheckoutParams(
        tier=request.input.tier,
        price_id=request.input.price_id,
        quantity=request.input.quantity,
        success_url=request.return_url("success_url", default="/?checkout=success"),
        cancel_url=request.return_url("cancel_url", default="/?checkout=cancelled"),
        interval=request.input.interval,
        currency=request.input.currency,
    )
    return {"url": app.checkout().open(request.account_id, params, request.now)}
