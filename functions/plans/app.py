"""GET plans: list the plans of the catalog."""

from billing.api.endpoint import ResponseData
from billing.api.operations.plans import PLANS
from billing.api.pipeline import ApiRequest, as_dict
from billing.bootstrap import app


@app.operation(PLANS)
def handler(_request: ApiRequest) -> ResponseData:
    """Return every plan with its prices, features and limits."""
    return {"plans": [{**as_dict(plan), "limits": app.catalog.limits(plan)} for plan in app.catalog.plans]}
