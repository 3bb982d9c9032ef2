"""Idempotent requests: one effect per `Idempotency-Key`, for 24 hours. Powertools stores the responses in our table.

A failed request is not stored, so a retry with the same key runs again. Imports boto3.
https://docs.powertools.aws.dev/lambda/python/latest/utilities/idempotency/
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyInconsistentStateError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)

from billing.adapters.dynamodb import Table
from billing.domain.errors import IdempotencyKeyReused, StillRunning, StoreUnavailable

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

RETENTION_SECONDS = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """Request with an idempotency key.

    Attributes:
        target: Route key with the ids of the path; a key applies to one account and one target.
        content: Content that must be the same in every request with the key.
    """

    account_id: str
    target: str
    key: str
    content: str


@dataclass(frozen=True, slots=True)
class Replayable:
    """Response body; `replayed` if it is the response to an earlier request."""

    text: str
    replayed: bool


def run_idempotent(
    request: IdempotentRequest, compute: Callable[[], str], table: Table, context: "LambdaContext"
) -> Replayable:
    """Return the response to the first request with this key.

    Args:
        request: The request.
        compute: Computes the response body of a first request.
        table: Table that stores the responses.
        context: Lambda's context. After the function's remaining time, an unfinished request no longer blocks its key.

    Raises:
        IdempotencyKeyReused: The first request had other content.
        StillRunning: The first request is not finished.
        StoreUnavailable: The response could not be read or stored.
        BillingError: Any error of `compute`.
    """
    has_run = False

    def run(*, keyed: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG001 - Powertools reads it
        nonlocal has_run
        has_run = True
        return {"text": compute()}

    run_once = idempotent_function(
        run,
        data_keyword_argument="keyed",
        persistence_store=_persistence(table, request.account_id),
        config=_config(context),
        key_prefix=request.target.replace(" ", ""),
    )
    try:
        text = run_once(keyed={"key": request.key, "content": request.content})["text"]
    except IdempotencyValidationError:
        raise IdempotencyKeyReused from None
    except (IdempotencyAlreadyInProgressError, IdempotencyInconsistentStateError):
        raise StillRunning from None
    except IdempotencyPersistenceLayerError as error:
        raise StoreUnavailable from error
    return Replayable(text, replayed=not has_run)


def _config(context: "LambdaContext") -> IdempotencyConfig:
    return IdempotencyConfig(
        event_key_jmespath="key",
        payload_validation_jmespath="content",
        expires_after_seconds=RETENTION_SECONDS,
        hash_function="sha256",
        lambda_context=context,
    )


def _persistence(table: Table, account_id: str) -> DynamoDBPersistenceLayer:
    return DynamoDBPersistenceLayer(
        table_name=table.name,
        key_attr="pk",
        sort_key_attr="sk",
        static_pk_value=f"IDEMPOTENCY#{account_id}",
        expiry_attr="expires_at",
        boto3_client=table.client,
    )
