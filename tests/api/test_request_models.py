"""Request models: integers in JSON."""

import json

import pytest

from billing.api.operations.checkout import CheckoutRequest
from billing.api.operations.record_usage import RecordUsageRequest
from billing.domain.errors import RequestInvalid


@pytest.mark.parametrize("written", ["2", "2.0", "2e0", "20e-1"])
def test_integral_json_number_is_an_integer_in_every_notation(written: str) -> None:
    """JSON Schema does not distinguish them, and some languages write 2.0."""
    quantity = CheckoutRequest.parse(json.loads(f'{{"quantity": {written}}}'), from_strings=False).quantity
    assert (quantity, type(quantity)) == (2, int)
    sent = json.loads(f'{{"measurements": [{{"id": "m", "metric": "api_calls", "value": {written}}}]}}')
    assert RecordUsageRequest.parse(sent, from_strings=False).measurements[0].value == 2


@pytest.mark.parametrize("written", ["2.5", "1e300", "1e999", "true", '"2"', "null", "0.0"])
def test_other_json_values_are_not_integers(written: str) -> None:
    with pytest.raises(RequestInvalid):
        CheckoutRequest.parse(json.loads(f'{{"quantity": {written}}}'), from_strings=False)
