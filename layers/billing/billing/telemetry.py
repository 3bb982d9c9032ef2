"""Structured logs and metrics. Log entries contain ids, never a key, token, signature or e-mail address."""

from functools import cache

from aws_lambda_powertools import Logger

METRICS_NAMESPACE = "ServerlessBilling"


@cache
def logger() -> Logger:
    """Return the logger of the process. POWERTOOLS_SERVICE_NAME and LOG_LEVEL set its service name and level."""
    return Logger()


def count(metric: str) -> None:
    """Add one to a CloudWatch metric with a log entry in the embedded metric format."""
    from aws_lambda_powertools.metrics import MetricUnit, single_metric  # noqa: PLC0415 - rarely used

    with single_metric(name=metric, unit=MetricUnit.Count, value=1, namespace=METRICS_NAMESPACE) as written:
        written.add_dimension(name="service", value=logger().service)
