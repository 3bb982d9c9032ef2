"""Schemathesis check: a request that the schema allows is rejected only for reasons that a schema cannot express."""

import re
from typing import Any

import schemathesis
from schemathesis import Case

BAD_REQUEST = 400

ALLOWED_RESPONSES = {
    "createCheckout": re.compile(
        r"quantity: must be 1: \w+ is not priced per seat|priceId: is not a price of the catalog"
    ),
    "recordUsage": re.compile(r"measurements\.\d+\.id: is the id of another measurement of this request"),
    "createWebhookEndpoint": re.compile(r"url: .+|There are 16 webhook endpoints already\. Delete one first\."),
    "updateWebhookEndpoint": re.compile(r"url: .+"),
    "listWebhookDeliveries": re.compile(r"cursor: must be the next_cursor of an earlier response"),
    "replayEvents": re.compile(
        r"since: must (be a time in UTC, for example .+|not be in the future)"
        r"|cursor: must be the next_cursor of an earlier response"
        r"|The webhook endpoint is disabled\. Enable it first\."
    ),
    "listInvoices": re.compile(r"cursor: must be the next_cursor of an earlier response"),
    "receiveStripeEvent": re.compile(r"The timestamp of the Stripe-Signature header is too far from the current time"),
}


@schemathesis.check
def rejection_of_valid_data_has_known_reason(
    _context: schemathesis.CheckContext, response: schemathesis.Response, case: Case[Any]
) -> None:
    """Check that a 400 response to schema-conformant data has a known reason. Raises AssertionError."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != BAD_REQUEST:
        return
    operation = case.operation.definition.raw["operationId"]
    error = response.json()["error"]
    problems = [f"{each['path']}: {each['message']}" for each in error.get("details", ())] or [error["message"]]
    assert operation in ALLOWED_RESPONSES, problems
    assert [reason for reason in problems if not ALLOWED_RESPONSES[operation].fullmatch(reason)] == []
