"""POST usage: record measurements."""

from billing.api.contracts.contract import Operation
from billing.api.operation import ApiRequest, ResponseData
from billing.api.request_models import RecordUsageRequest
from billing.bootstrap import app
from billing.domain.usage import parse_measurements, quota_of


@app.operation(Operation.RECORD_USAGE, input=RecordUsageRequest, loads_account=True)
def handler(request: ApiRequest) -> ResponseData:
    """Record each measurement once, and reject a `consume` that would exceed the plan's limit."""
    measurements = parse_measurements(request.input.measurements, app.catalog)
    quota = quota_of(request.account, app.catalog, request.now, app.settings.past_due_grace)
    decisions = app.usage.record(request.account, quota, measurements, request.now)
    return {"results": [each.result for each in decisions]}
