"""GET subscription: plan and subscription status of an account."""

from billing.api.contracts.contract import Operation
from billing.api.operation import ApiRequest, ResponseData, as_dict
from billing.bootstrap import app


@app.operation(Operation.SUBSCRIPTION, loads_account=True)
def handler(request: ApiRequest) -> ResponseData:
    """Return the status from the table, which Stripe's webhooks keep current."""
    return as_dict(request.account.status(app.catalog, request.now, app.settings.past_due_grace))
