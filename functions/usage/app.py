"""GET usage: usage against the plan's limits."""

from billing.api.endpoint import ResponseData
from billing.api.operations.usage import USAGE
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app
from billing.domain.usage import quota_of, summarize_usage


@app.operation(USAGE, loads_account=True)
def handler(request: ApiRequest) -> ResponseData:
    """Return every metric of the catalog for the current period."""
    quota = quota_of(request.account, app.catalog, request.now, app.settings.access_policy)
    counters = app.usage.read_counters(request.account_id, quota.period, app.catalog.metrics)
    return {
        "plan": quota.plan.id,
        "period_start": quota.period.start,
        "period_end": quota.period.end,
        "usage": summarize_usage(app.catalog.metrics, quota, {**request.account.gauges, **counters}),
    }
