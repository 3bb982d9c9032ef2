"""GET usage: usage against the plan's limits."""

from billing.api.declaration import (
    TIME,
    DeploymentValues,
    OperationDeclaration,
    integer,
    list_of,
    nullable,
    object_of,
    string,
)

USAGE = OperationDeclaration(
    name="usage",
    operation_id="getUsage",
    summary="Get usage and limits",
    description="Returns the usage of every metric of the catalog in the current usage period. The period is the "
    "subscription's billing period; for an account that does not pay, it is the calendar month.",
    response=object_of(
        {
            "plan": string("Plan of the account.", **DeploymentValues.PLANS.keyword),
            "period_start": string("Start of the current usage period.", **TIME),
            "period_end": string("End of the current usage period. Counters then restart at 0.", **TIME),
            "usage": list_of(
                {
                    "metric": string("Metric id.", **DeploymentValues.METRICS.keyword),
                    "used": integer("Usage: in the period for a counter, current value for a gauge.", minimum=0),
                    "limit": nullable(integer("Limit of the plan; null is unlimited.", minimum=0)),
                    "remaining": nullable(integer("Remaining usage, at least 0; null is unlimited.", minimum=0)),
                }
            ),
        }
    ),
)
