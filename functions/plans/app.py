"""GET plans: list the plans of the catalog."""

from billing.api.endpoint import ResponseData
from billing.api.operations.plans import PLANS
from billing.api.pipeline import ApiRequest, as_dict
from billing.bootstrap import app
from billing.domain.plans import Plan


@app.operation(PLANS)
def handler(_request: ApiRequest) -> ResponseData:
    """Return every plan with its prices, features and limits."""
    return {"plans": [_plan_data(plan) for plan in app.catalog.plans]}


def _plan_data(plan: Plan) -> ResponseData:
    data = {**as_dict(plan), "limits": app.catalog.limits(plan)}
    del data["proration"]  # a setting of the portal, not of the price page
    return data
