"""POST usage: record measurements."""

from typing import Annotated, Literal

from pydantic import Field

from billing.api.declaration import (
    DeploymentValues,
    OperationDeclaration,
    integer,
    list_of,
    nullable,
    object_of,
    string,
)
from billing.api.request_models import MEASURED_MAX, JsonInteger, RequestModel
from billing.domain.credentials import SECRET_KEY_ONLY
from billing.domain.usage import Action, MeasurementOutcome

MEASUREMENTS_MAX = 100


class MeasurementRequest(RequestModel):
    """Measurement of a metric."""

    id: str = Field(
        pattern=r"^[!-~]{1,255}$", description="Your id of the measurement. It is recorded once per id, for 35 days."
    )
    metric: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,62}$",
        description="Metric id.",
        json_schema_extra=DeploymentValues.METRICS.keyword,
    )
    value: JsonInteger = Field(
        ge=0, le=MEASURED_MAX, description="Amount to add to a counter, or new value of a gauge."
    )
    action: Literal["track", "consume"] = Field(
        "track", description="`track` always records; `consume` records only within the plan's limit."
    )


class RecordUsageRequest(RequestModel):
    """Request body."""

    measurements: Annotated[list[MeasurementRequest], Field(min_length=1, max_length=MEASUREMENTS_MAX)] = Field(
        description="Measurements, evaluated in this order. Ids must be unique within the request."
    )


RECORD_USAGE = OperationDeclaration(
    name="record_usage",
    operation_id="recordUsage",
    summary="Record usage",
    description="Records each measurement once per id, however often it is sent. A `consume` measurement is recorded "
    "only if all of it is within the plan's limit. If an id was recorded with another metric, value or action, the "
    "outcome is `conflict` and nothing of the measurement is recorded.",
    request=RecordUsageRequest,
    response=object_of(
        {
            "results": list_of(
                {
                    "id": string("Id of the measurement."),
                    "outcome": string("Outcome of the measurement.", enum=[*MeasurementOutcome]),
                    "used": integer("Current usage of the metric; only with outcome `limit_reached`.", minimum=0),
                    "limit": nullable(integer("Limit of the plan; only with outcome `limit_reached`.", minimum=0)),
                    "recorded": object_of(
                        {
                            "metric": string("Metric id.", **DeploymentValues.METRICS.keyword),
                            "value": integer("Recorded value.", minimum=0),
                            "action": string("Recorded action, if it is known.", enum=[*Action]),
                        },
                        optional=("action",),
                    )
                    | {"description": "Measurement that is recorded under the id; only with outcome `conflict`."},
                    "differences": {
                        "type": "array",
                        "items": {"enum": ["metric", "value", "action"]},
                        "description": "Fields that differ from the recorded measurement; only with outcome "
                        "`conflict`.",
                    },
                },
                optional=("used", "limit", "recorded", "differences"),
            )
        }
    ),
    # Servers only: from a browser, a user could reduce the recorded consumption.
    credentials=SECRET_KEY_ONLY,
)
