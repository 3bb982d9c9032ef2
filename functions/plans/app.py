"""What is for sale?"""

from billing.api.contracts.contract import Operation
from billing.api.operation import Call, Facts, facts_of, operation
from billing.catalog import load_catalog


@operation(Operation.PLANS)
def handler(_call: Call) -> Facts:
    """Answer the price page: the catalog, which no table has to be asked for."""
    catalog = load_catalog()
    return {
        "plans": [
            {
                **facts_of(plan),
                "prices": [facts_of(price) for price in plan.prices],
                "limits": catalog.limits(plan),
            }
            for plan in catalog.plans
        ]
    }
