"""What a million events cost on AWS: what one consumes, times public prices.

The prices are those of us-east-1, on demand, in the first tier and without any free one, as known in
November 2026. They change: whoever plans with the result reads the pages again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MILLION = 1_000_000
GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars."""

    lambda_requests_million: float = 0.20  # https://aws.amazon.com/lambda/pricing/
    lambda_arm64_gb_second: float = 0.0000133334  # the same
    http_api_requests_million: float = 1.00  # https://aws.amazon.com/api-gateway/pricing/
    dynamodb_read_units_million: float = 0.125  # https://aws.amazon.com/dynamodb/pricing/on-demand/
    dynamodb_write_units_million: float = 0.625  # the same
    logs_gigabyte: float = 0.50  # https://aws.amazon.com/cloudwatch/pricing/, ingestion
    traces_million: float = 5.00  # https://aws.amazon.com/xray/pricing/, recorded


@dataclass(frozen=True, slots=True)
class Consumption:
    """What one event consumes. `traces`: the share of events that X-Ray records."""

    milliseconds: float
    memory_gb: float
    read_units: float
    write_units: float
    log_bytes: float
    traces: float


def dollars_per_million(one: Consumption, prices: Prices) -> Mapping[str, float]:
    """The cost of a million such events, by what is paid for."""
    seconds = -(-one.milliseconds // 1) / 1000
    return {
        "Lambda requests": prices.lambda_requests_million,
        "Lambda duration": MILLION * seconds * one.memory_gb * prices.lambda_arm64_gb_second,
        "HTTP API": prices.http_api_requests_million,
        "DynamoDB reads": one.read_units * prices.dynamodb_read_units_million,
        "DynamoDB writes": one.write_units * prices.dynamodb_write_units_million,
        "logs": MILLION * one.log_bytes / GIGABYTE * prices.logs_gigabyte,
        "traces": one.traces * prices.traces_million,
    }
