"""`python -m local.openapi organization`: print a contract's OpenAPI document, for client generators."""

import argparse
import json

from billing.api.contracts import CONTRACTS
from billing.api.openapi import openapi_document
from billing.catalog import load_catalog

ALLOWED_ORIGINS = ("http://localhost:3000",)
"""Default of the template's parameter AllowedOrigins."""


def main() -> None:
    """Print the OpenAPI document of one contract."""
    contracts = {contract.name: contract for contract in CONTRACTS}
    parser = argparse.ArgumentParser(prog="python -m local.openapi", description="Print a contract's OpenAPI document.")
    parser.add_argument("contract", choices=contracts)
    contract = contracts[parser.parse_args().contract]
    print(json.dumps(openapi_document(contract, load_catalog(), ALLOWED_ORIGINS), indent=2))


if __name__ == "__main__":
    main()
