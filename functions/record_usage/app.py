"""POST usage: record measurements."""

from billing.api.endpoint import ResponseData
from billing.api.operations.record_usage import RECORD_USAGE
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app
from billing.domain.usage import parse_measurements, quota_of


@app.operation(RECORD_USAGE, loads_account=True)
def handler(request: ApiRequest) -> ResponseData:
    """Record each measurement once, and reject a `consume` that would exceed the plan's limit."""
    measurements = parse_measurements(request.input.measurements, app.catalog)
    quota = quota_of(request.account, app.catalog, request.now, app.settings.access_policy)
    decisions = app.usage.record(request.account, quota, measurements, request.now)
    return {"results": [each.result for each in decisions]}
