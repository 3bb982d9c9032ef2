"""POST deliveries/{deliveryId}/redeliver: request a delivery again."""

from billing.api.declaration import OperationDeclaration, object_of
from billing.api.webhook_schemas import DELIVERY_ID, WEBHOOK_DELIVERY
from billing.domain.credentials import SECRET_KEY_ONLY
from billing.domain.errors import QueueUnavailable

REDELIVER = OperationDeclaration(
    name="redeliver",
    operation_id="redeliver",
    summary="Redeliver an event",
    description="Requests a delivery again, whatever its status is. Its attempts start from the beginning of the "
    "schedule, and the log keeps the earlier ones.",
    path_ids=DELIVERY_ID,
    response=object_of(WEBHOOK_DELIVERY),
    credentials=SECRET_KEY_ONLY,
    errors=(QueueUnavailable,),
)
