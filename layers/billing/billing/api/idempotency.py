"""One effect for one `Idempotency-Key`, for 24 hours. Powertools keeps the answers, in our table.

What failed is not kept: the same key may then succeed. Imports boto3, so only requests with a key import this module.
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
    """An account's request to a route under a key. `content` is what must be the same when the key comes again."""

    account_id: str
    route: str
    key: str
    content: str


@dataclass(frozen=True, slots=True)
class Replayable:
    """An answer's text, and whether it is that of an earlier request."""

    text: str
    replayed: bool


def run_idempotent(
    request: IdempotentRequest, answer: Callable[[], str], table: Table, context: "LambdaContext"
) -> Replayable:
    """The answer to the first request with this key.

    `context` is Lambda's: it tells after which time a request without an answer is dead. Raises IdempotencyKeyReused,
    StillRunning, StoreUnavailable, and what `answer` raises.
    """
    config = IdempotencyConfig(
        event_key_jmespath="key",
        payload_validation_jmespath="content",
        expires_after_seconds=RETENTION_SECONDS,
        hash_function="sha256",
        lambda_context=context,
    )
    ran = False

    def run(*, asked: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG001 - Powertools reads it
        nonlocal ran
        ran = True
        return {"text": answer()}

    run_once = idempotent_function(
        run,
        data_keyword_argument="asked",
        persistence_store=_records(table, request.account_id),
        config=config,
        key_prefix=request.route.replace(" ", ""),
    )
    try:
        text = run_once(asked={"key": request.key, "content": request.content})["text"]
    except IdempotencyValidationError:
        raise IdempotencyKeyReused from None
    except (IdempotencyAlreadyInProgressError, IdempotencyInconsistentStateError):
        raise StillRunning from None
    except IdempotencyPersistenceLayerError as error:
        raise StoreUnavailable from error
    return Replayable(text, replayed=not ran)


def _records(table: Table, account_id: str) -> DynamoDBPersistenceLayer:
    return DynamoDBPersistenceLayer(
        table_name=table.name,
        key_attr="pk",
        sort_key_attr="sk",
        static_pk_value=f"IDEMPOTENCY#{account_id}",
        expiry_attr="expires_at",
        boto3_client=table.client,
    )
