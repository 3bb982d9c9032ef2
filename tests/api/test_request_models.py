"""Numbers as JSON has them."""

import json

import pytest
from pydantic import ValidationError

from billing.api.request_models import CheckoutRequest, RecordUsageRequest


@pytest.mark.parametrize("written", ["2", "2.0", "2e0", "20e-1"])
def test_a_whole_number_is_an_integer_however_it_is_written(written: str) -> None:
    """JSON Schema says so, and some languages write it no other way."""
    quantity = CheckoutRequest.model_validate(json.loads(f'{{"quantity": {written}}}')).quantity
    assert (quantity, type(quantity)) == (2, int)
    sent = json.loads(f'{{"measurements": [{{"id": "m", "metric": "api_calls", "value": {written}}}]}}')
    assert RecordUsageRequest.model_validate(sent).measurements[0].value == 2


@pytest.mark.parametrize("written", ["2.5", "1e300", "1e999", "true", '"2"', "null", "0.0"])
def test_nothing_else_is(written: str) -> None:
    """Neither text nor a truth value, nor what is out of bounds."""
    with pytest.raises(ValidationError):
        CheckoutRequest.model_validate(json.loads(f'{{"quantity": {written}}}'))
