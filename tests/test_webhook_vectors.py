"""Test vectors of the TypeScript client: standardwebhooks, which signs the deliveries, computes the same signatures."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from local.stack import ROOT

VECTORS: list[dict[str, Any]] = json.loads((ROOT / "clients/typescript/test/webhook_vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_vector_has_the_signatures_of_standardwebhooks(vector: dict[str, Any]) -> None:
    sent = datetime.fromtimestamp(vector["timestamp"], UTC)
    signatures = [Webhook(secret).sign(vector["id"], sent, vector["body"]) for secret in vector["secrets"]]
    assert vector["signature"] == " ".join(signatures)
