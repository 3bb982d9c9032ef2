"""Price of a million events on AWS: the consumption of one event, multiplied by list prices.

The prices are on-demand prices of us-east-1 in November 2026, first tier, without free tiers. Check the linked pages
before you plan with the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MILLION = 1_000_000
GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class Prices:
    """List prices in US dollars."""

    lambda_requests_million: float = 0.20  # https://aws.amazon.com/lambda/pricing/
    lambda_arm64_gb_second: float = 0.0000133334  # the same
    http_api_requests_million: float = 1.00  # https://aws.amazon.com/api-gateway/pricing/
    dynamodb_read_units_million: float = 0.125  # https://aws.amazon.com/dynamodb/pricing/on-demand/
    dynamodb_write_units_million: float = 0.625  # the same
    sqs_fifo_requests_million: float = 0.50  # https://aws.amazon.com/sqs/pricing/
    logs_gigabyte: float = 0.50  # https://aws.amazon.com/cloudwatch/pricing/, ingestion
    traces_million: float = 5.00  # https://aws.amazon.com/xray/pricing/, recorded


@dataclass(frozen=True, slots=True)
class Consumption:
    """Consumption of one event. `traces` is the share of events that X-Ray records."""

    milliseconds: float
    memory_gb: float
    read_units: float
    write_units: float
    log_bytes: float
    traces: float


def dollars_per_million(event: Consumption, prices: Prices) -> Mapping[str, float]:
    """Return the price of a million events by billed item."""
    seconds = -(-event.milliseconds // 1) / 1000
    return {
        "Lambda requests": prices.lambda_requests_million,
        "Lambda duration": MILLION * seconds * event.memory_gb * prices.lambda_arm64_gb_second,
        "HTTP API": prices.http_api_requests_million,
        "DynamoDB reads": event.read_units * prices.dynamodb_read_units_million,
        "DynamoDB writes": event.write_units * prices.dynamodb_write_units_million,
        "logs": MILLION * event.log_bytes / GIGABYTE * prices.logs_gigabyte,
        "traces": event.traces * prices.traces_million,
    }
