"""What can I ask, and what will be answered?"""

from functools import cache

from billing.api.contracts.contract import Contract, Operation
from billing.api.openapi import openapi_document
from billing.api.operation import Call, Facts, operation
from billing.catalog import load_catalog
from billing.settings import load_settings


@operation(Operation.OPENAPI)
def handler(call: Call) -> Facts:
    """Answer the contract as an OpenAPI document."""
    return _facts(call.contract)


@cache
def _facts(contract: Contract) -> Facts:
    return {"document": openapi_document(contract, load_catalog(), load_settings().allowed_origins)}
