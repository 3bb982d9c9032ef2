"""`python -m local.openapi organization`: print a contract's OpenAPI document, for client generators.

With `--webhooks`, the document also has the webhooks of the native contract, which sends the events of all accounts.
"""

import argparse
import json

from billing.api.contracts import CONTRACTS
from billing.api.contracts.account_api import ACCOUNT
from billing.api.contracts.contract import Contract
from billing.api.declaration import JsonSchema
from billing.api.openapi import openapi_document
from billing.api.webhook_events import WEBHOOK_EVENTS
from billing.catalog import load_catalog

ALLOWED_ORIGINS = ("http://localhost:3000",)
"""Default of the template's parameter AllowedOrigins."""


def main() -> None:
    """Print the OpenAPI document of one contract."""
    contracts = {contract.name: contract for contract in CONTRACTS}
    parser = argparse.ArgumentParser(prog="python -m local.openapi", description="Print a contract's OpenAPI document.")
    parser.add_argument("contract", choices=contracts)
    parser.add_argument("--webhooks", action="store_true", help="add the webhooks of the native contract")
    arguments = parser.parse_args()
    document = document_of(contracts[arguments.contract])
    if arguments.webhooks:
        add_webhooks(document)
    print(json.dumps(document, indent=2))


def document_of(contract: Contract) -> JsonSchema:
    """Return the document of a contract for the catalog of this repository."""
    return openapi_document(contract, load_catalog(), ALLOWED_ORIGINS)


def add_webhooks(document: JsonSchema) -> None:
    """Add the webhooks of the native contract and their schemas to a document."""
    native = document_of(ACCOUNT)
    document["webhooks"] = native["webhooks"]
    for declaration in WEBHOOK_EVENTS:
        document["components"]["schemas"][declaration.name] = native["components"]["schemas"][declaration.name]


if __name__ == "__main__":
    main()
