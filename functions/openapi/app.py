"""GET openapi.json: describe a contract."""

from functools import cache

from billing.api.contracts.contract import Contract, Operation
from billing.api.openapi import openapi_document
from billing.api.operation import ApiRequest, ResponseData
from billing.bootstrap import app


@app.operation(Operation.OPENAPI)
def handler(request: ApiRequest) -> ResponseData:
    """Return the contract's OpenAPI document."""
    return _document(request.contract)


@cache
def _document(contract: Contract) -> ResponseData:
    return {"document": openapi_document(contract, app.catalog, app.settings.allowed_origins)}
