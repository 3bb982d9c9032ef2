"""Error tables: a contract's rows override the default rows, attribute by attribute."""

import pytest

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract
from billing.api.contracts.error_table import ErrorRow, resolve_error
from billing.domain import errors
from billing.domain.errors import BillingError

NO_ROW = ErrorRow()

type Table = dict[type[BillingError], ErrorRow]


def test_error_without_a_contract_row_has_the_default_row() -> None:
    mapping = resolve_error(errors.RateLimited, {}, NO_ROW)
    assert (mapping.status, mapping.code, mapping.message, mapping.is_internal) == (429, "RATE_LIMITED", None, False)


def test_contract_row_overrides_only_the_attributes_it_sets() -> None:
    mapping = resolve_error(errors.RateLimited, {errors.RateLimited: ErrorRow(code="slow_down")}, NO_ROW)
    assert (mapping.status, mapping.code) == (429, "slow_down")


def test_error_without_a_row_has_the_row_of_its_base_class() -> None:
    table: Table = {errors.Forbidden: ErrorRow(code="no", message="No access")}
    mapping = resolve_error(errors.CredentialKindForbidden, table, NO_ROW)
    assert (mapping.status, mapping.code, mapping.message) == (403, "no", "No access")


def test_default_row_of_an_error_precedes_the_contract_row_of_its_base_class() -> None:
    table: Table = {errors.RequestInvalid: ErrorRow(code="bad_request")}
    assert resolve_error(errors.IdempotencyKeyInvalid, table, NO_ROW).code == "INVALID_IDEMPOTENCY_KEY"


def test_row_for_billing_error_applies_to_all_errors() -> None:
    table: Table = {errors.BillingError: ErrorRow(type="api_error", doc_url="https://example.com/#{code}")}
    for error in (errors.RateLimited, errors.ConfigurationMissing, ValueError):
        mapping = resolve_error(error, table, NO_ROW)
        assert (mapping.type, mapping.doc_url) == ("api_error", f"https://example.com/#{mapping.code.lower()}")


def test_empty_doc_url_removes_the_documentation_url() -> None:
    table: Table = {
        errors.BillingError: ErrorRow(doc_url="https://example.com/"),
        errors.NeverSubscribed: ErrorRow(doc_url=""),
    }
    assert resolve_error(errors.NeverSubscribed, table, NO_ROW).doc_url is None


@pytest.mark.parametrize("error", [ValueError, errors.ConfigurationMissing])
def test_error_in_no_table_is_internal(error: type[Exception]) -> None:
    mapping = resolve_error(error, {}, ErrorRow(code="oops"))
    assert (mapping.status, mapping.code, mapping.message, mapping.is_internal) == (
        500,
        "oops",
        "Internal server error",
        True,
    )


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_contract_row_sets_no_attribute_to_its_default(contract: Contract) -> None:
    """A row that repeats the default would hide a change of the default."""
    for error, row in contract.errors.items():
        default = resolve_error(error, {}, NO_ROW)
        assert row.status is None or default.is_internal or row.status != default.status
        assert row.code is None or default.is_internal or row.code != default.code
