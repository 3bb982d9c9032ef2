"""GET subscription: plan and subscription status of an account."""

from billing.api.endpoint import ResponseData
from billing.api.operations.subscription import SUBSCRIPTION
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app


@app.operation(SUBSCRIPTION, loads_account=True)
def handler(request: ApiRequest) -> ResponseData:
    """Return the status from the table, which Stripe's webhooks keep current."""
    return request.account.status(app.catalog, request.now, app.settings.access_policy)
