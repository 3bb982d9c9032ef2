"""HTTP responses in the envelope of a contract, for API Gateway's payload format 2.0.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from billing.api.contracts.contract import Contract, render
from billing.domain.errors import (
    BillingError,
    MethodNotAllowed,
    RateLimited,
    RequestInvalid,
    SubscriptionExists,
    TryAgainLater,
    Unauthenticated,
)
from billing.domain.timestamps import iso
from billing.telemetry import logger

NO_CONTENT = 204

type LambdaEvent = Mapping[str, Any]
type LambdaHandler = Callable[[LambdaEvent, Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response; `body` is JSON text."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


def respond(
    event: LambdaEvent,
    contract: Contract,
    operation_name: str,
    handle: Callable[[dict[str, str]], HttpResponse],
) -> dict[str, Any]:
    """Return the Lambda response of `handle`, with every error in the contract's envelope.

    The log lines of a request carry its id, operation and account.

    Args:
        event: API Gateway event.
        contract: Contract that the request's path belongs to.
        operation_name: Operation, as logged.
        handle: Computes the response. It receives the response headers and may add to them, also before it raises.
    """
    request_id = event["requestContext"]["requestId"]
    logger().append_keys(request_id=request_id, operation=operation_name, account_id=None, credential=None)
    headers = {"content-type": "application/json", "cache-control": "no-store", "x-request-id": request_id}
    cause: dict[str, str] = {}
    try:
        response = handle(headers)
    except BillingError as error:
        response, cause = _error_response(contract, error, request_id), _cause(error)
    except Exception as error:  # noqa: BLE001 - the only one: a fault of ours is a 500 and a log line
        logger().exception("Unhandled error")
        response = _error_response(contract, error, request_id)
    logger().info("Request answered", extra={"status": response.status, **cause})
    return {"statusCode": response.status, "headers": {**headers, **response.headers}, "body": response.body}


def rate_limit_headers(limit: int, remaining: int, reset_seconds: int) -> dict[str, str]:
    """Return the headers of draft-ietf-httpapi-ratelimit-headers-06; `reset_seconds` counts from now."""
    return {
        "ratelimit-limit": str(limit),
        "ratelimit-remaining": str(remaining),
        "ratelimit-reset": str(reset_seconds),
    }


def to_json(value: object) -> str:
    """Serialize a response body; times become ISO 8601 in UTC."""
    return json.dumps(value, default=_serialize)


def _error_response(contract: Contract, error: Exception, request_id: str) -> HttpResponse:
    mapping = contract.error_mapping(type(error))
    if mapping.is_internal and isinstance(error, BillingError):
        logger().error("Configuration error", extra={"reason": str(error)})
    data: dict[str, Any] = {
        "code": mapping.code,
        "message": mapping.message or str(error),
        "type": mapping.type,
        "request_id": request_id,
        "timestamp": datetime.now(UTC),
    }
    if mapping.doc_url:
        data["doc_url"] = mapping.doc_url
    if isinstance(error, RequestInvalid):
        data["details"] = [{"path": each.path, "message": each.message} for each in error.problems]
    if isinstance(error, SubscriptionExists):
        data |= {"action": error.action} if error.action else {}
        data |= {"action_url": error.action_url} if error.action_url else {}
    return HttpResponse(mapping.status, to_json(render(contract.error_envelope, data)), _error_headers(error))


def _cause(error: BillingError) -> dict[str, str]:
    """Return what the log says of an error; for a rejected credential more than its caller may learn."""
    reason = {"reason": error.reason} if isinstance(error, Unauthenticated) else {}
    return {"error": type(error).__name__, **reason}


def _error_headers(error: Exception) -> Mapping[str, str]:
    match error:
        case Unauthenticated():
            return {"www-authenticate": "Bearer"}
        case MethodNotAllowed():
            return {"allow": ", ".join(error.allowed)}
        case RateLimited():
            seconds = error.retry_after_seconds
            return {"retry-after": str(seconds)} | rate_limit_headers(error.limit, 0, seconds)
        case TryAgainLater():
            return {"retry-after": str(error.retry_after_seconds)}
        case _:
            return {}


def _serialize(value: object) -> str | None:
    if isinstance(value, datetime):
        return iso(value)
    raise TypeError(f"{type(value).__name__} is not JSON serializable")
