"""A check of our own: what the schemas allow is refused only for reasons that no schema can know."""

import re
from typing import Any

import schemathesis
from schemathesis import Case

BAD_REQUEST = 400

REASONS = {
    "createCheckout": re.compile(
        r"quantity: must be 1: \w+ is not priced per seat|priceId: is not a price of the catalog"
    ),
    "recordUsage": re.compile(r"measurements\.\d+\.id: is the id of another measurement of this request"),
    "listInvoices": re.compile(r"cursor: must be the next_cursor of an earlier response"),
    "receiveStripeEvent": re.compile(r"The Stripe-Signature timestamp is too far from the present"),
}


@schemathesis.check
def refusal_of_allowed_data_is_known(
    _context: schemathesis.CheckContext, response: schemathesis.Response, case: Case[Any]
) -> None:
    """Raises AssertionError with the reason that is none of these."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != BAD_REQUEST:
        return
    operation = case.operation.definition.raw["operationId"]
    error = response.json()["error"]
    told = [f"{each['path']}: {each['message']}" for each in error.get("details", ())] or [error["message"]]
    assert operation in REASONS, told
    assert [reason for reason in told if not REASONS[operation].fullmatch(reason)] == []
