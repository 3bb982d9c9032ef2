"""How much of my plan have I used?"""

from billing.adapters.usage_repository import open_usage_ledger
from billing.api.contracts.contract import Operation
from billing.api.operation import Call, Facts, facts_of, operation
from billing.catalog import load_catalog
from billing.domain.usage import usage_of
from billing.settings import load_settings


@operation(Operation.USAGE, loads_account=True)
def handler(call: Call) -> Facts:
    """Answer every metric of the catalog, for the period that counts now."""
    catalog = load_catalog()
    quota = call.account.quota(catalog, call.now, load_settings().past_due_grace)
    counted = open_usage_ledger().read_counters(call.account_id, quota.period, catalog.metrics)
    return {
        "plan": quota.plan.id,
        "period_start": quota.period.start,
        "period_end": quota.period.end,
        "usage": [facts_of(each) for each in usage_of(catalog.metrics, quota, call.account.gauges | counted)],
    }
