"""GET openapi.json: describe a contract."""

from billing.api.declaration import OperationDeclaration
from billing.domain.credentials import NO_CREDENTIAL

OPENAPI = OperationDeclaration(
    name="openapi",
    operation_id="getOpenapi",
    summary="Get the OpenAPI document",
    description="Returns this OpenAPI 3.1 document. It describes the plans, prices and metrics of this deployment.",
    response={"type": "object", "description": "OpenAPI document."},
    credentials=NO_CREDENTIAL,
    has_envelope=False,
)
