"""GET openapi.json: describe a contract."""

from functools import cache

from billing.api.contracts.contract import Contract
from billing.api.endpoint import ResponseData
from billing.api.openapi import openapi_document
from billing.api.operations.openapi import OPENAPI
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app


@app.operation(OPENAPI)
def handler(request: ApiRequest) -> ResponseData:
    """Return the contract's OpenAPI document."""
    return _document(request.endpoint.contract)


@cache
def _document(contract: Contract) -> ResponseData:
    return openapi_document(contract, app.catalog, app.settings.allowed_origins)
