"""Which plan is this account on?"""

from billing.api.contracts.contract import Operation
from billing.api.operation import Call, Facts, facts_of, operation
from billing.catalog import load_catalog
from billing.settings import load_settings


@operation(Operation.SUBSCRIPTION, loads_account=True)
def handler(call: Call) -> Facts:
    """Answer from the table alone: Stripe's webhooks keep it right."""
    return facts_of(call.account.status(load_catalog(), call.now, load_settings().past_due_grace))
