"""GET plans: list the plans of the catalog."""

from billing.api.contracts.contract import Operation
from billing.api.operation import ApiRequest, ResponseData, as_dict
from billing.bootstrap import app


@app.operation(Operation.PLANS)
def handler(_request: ApiRequest) -> ResponseData:
    """Return every plan with its prices, features and limits."""
    return {
        "plans": [
            {
                **as_dict(plan),
                "prices": [as_dict(price) for price in plan.prices],
                "limits": app.catalog.limits(plan),
            }
            for plan in app.catalog.plans
        ]
    }
