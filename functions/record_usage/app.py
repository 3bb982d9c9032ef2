"""Count what was used."""

from billing.adapters.usage_repository import open_usage_ledger
from billing.api.contracts.contract import Operation
from billing.api.operation import Call, Facts, operation
from billing.api.request_models import RecordUsageInput
from billing.catalog import load_catalog
from billing.domain.usage import read_measurements
from billing.settings import load_settings


@operation(Operation.RECORD_USAGE, input=RecordUsageInput, loads_account=True)
def handler(call: Call) -> Facts:
    """Record each measurement once, and refuse what would pass a limit."""
    catalog = load_catalog()
    measurements = read_measurements(call.input.measurements, catalog)
    quota = call.account.quota(catalog, call.now, load_settings().past_due_grace)
    decisions = open_usage_ledger().record(call.account, quota, measurements, call.now)
    return {"results": [each.result for each in decisions]}
