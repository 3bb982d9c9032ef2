"""What can I ask, and what will be answered?"""

from functools import cache

from billing.catalog import load_catalog
from billing.contracts.contract import Contract, Operation
from billing.endpoint import Call, Facts, operation
from billing.openapi import openapi_document
from billing.settings import load_settings


@operation(Operation.OPENAPI)
def handler(call: Call) -> Facts:
    """Answer the contract as an OpenAPI document."""
    return _facts(call.contract)


@cache
def _facts(contract: Contract) -> Facts:
    return {"document": openapi_document(contract, load_catalog(), load_settings().allowed_origins)}
