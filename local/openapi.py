"""`python -m local.openapi organization`: a contract as an OpenAPI document, for generators of clients."""

import argparse
import json

from billing.api.contracts import CONTRACTS
from billing.api.openapi import openapi_document
from billing.catalog import load_catalog

ALLOWED_ORIGINS = ("http://localhost:3000",)
"""What template.yaml has by default."""


def main() -> None:
    """Print the document of the contract that the command line names."""
    contracts = {contract.name: contract for contract in CONTRACTS}
    parser = argparse.ArgumentParser(prog="local.openapi", description="A contract as an OpenAPI document.")
    parser.add_argument("contract", choices=contracts)
    contract = contracts[parser.parse_args().contract]
    print(json.dumps(openapi_document(contract, load_catalog(), ALLOWED_ORIGINS), indent=2))


if __name__ == "__main__":
    main()
