"""GET /v1/billing/invoices: whole bodies, pages and filters; and the same invoices in the subscription contract."""

import base64
from typing import Any

import pytest

from billing.adapters.repository import FILTERED_ROWS_MAX
from billing.domain.cursors import encode_cursor
from tests.functions.events import event, invoice
from tests.functions.support import FunctionHarness, Response

pytestmark = pytest.mark.engine

INVOICES = "/v1/billing/invoices"
CREATED = 1_780_000_000  # 2026-05-28T20:26:40Z
DAY = 86_400


def store_invoices(deployment: FunctionHarness, count: int, *, first: int = 0, **changes: Any) -> list[str]:
    """Deliver invoices, each created a day after the previous one. Return their ids, newest first."""
    ids = [f"in_{number}" for number in range(first, first + count)]
    for number, invoice_id in enumerate(ids, first):
        invoice_object = invoice(invoice_id, created=CREATED + number * DAY, **changes)
        assert deployment.deliver(event("invoice.updated", invoice_object)).body["outcome"] == "applied"
    return ids[::-1]


def list_invoices(deployment: FunctionHarness, query: str = "") -> Response:
    """Request acme's invoices."""
    return deployment.authorized("GET", INVOICES, query=query)


def invoice_ids(response: Response) -> list[str]:
    """Return the ids of a page."""
    assert response.status == 200
    return [each["id"] for each in response.body["invoices"]]


def all_pages(deployment: FunctionHarness, query: str) -> list[list[str]]:
    """Return the ids of every page."""
    response = list_invoices(deployment, query)
    found = [invoice_ids(response)]
    while cursor := response.body["next_cursor"]:
        response = list_invoices(deployment, f"{query}&cursor={cursor}")
        found.append(invoice_ids(response))
    return found


def test_invoices_of_a_new_account_returns_an_empty_list(deployment: FunctionHarness) -> None:
    assert list_invoices(deployment).body == {"invoices": [], "next_cursor": None}


def test_invoice_body_contains_amounts_times_and_urls(deployment: FunctionHarness) -> None:
    """Amounts are in the currency's minor unit, times in ISO 8601."""
    urls = {"hosted_invoice_url": "https://invoice.stripe.com/i/1", "invoice_pdf": "https://pay.stripe.com/1/pdf"}
    invoice_object = invoice(**urls, period_start=CREATED, period_end=CREATED + 30 * DAY)
    deployment.deliver(event("invoice.paid", invoice_object))
    expected = {
        "id": "in_1",
        "number": "ACME-0001",
        "status": "paid",
        "currency": "usd",
        "total": 1900,
        "amount_due": 1900,
        "amount_paid": 1900,
        "amount_remaining": 0,
        "created": "2026-05-28T20:26:40Z",
        "period_start": "2026-05-28T20:26:40Z",
        "period_end": "2026-06-27T20:26:40Z",
        **urls,
    }
    assert list_invoices(deployment).body == {"invoices": [expected], "next_cursor": None}
    camel = {
        "amount_due": "amountDue",
        "amount_paid": "amountPaid",
        "amount_remaining": "amountRemaining",
        "period_start": "periodStart",
        "period_end": "periodEnd",
        "hosted_invoice_url": "hostedInvoiceUrl",
        "invoice_pdf": "invoicePdf",
    }
    assert deployment.authorized("GET", "/subscription/invoices").body == {
        "invoices": [{camel.get(name, name): value for name, value in expected.items()}],
        "nextCursor": None,
    }


def test_invoice_pages_contain_every_invoice_once(deployment: FunctionHarness) -> None:
    """The newest invoice comes first, with ten a page by default. A full last page has no next cursor."""
    ids = store_invoices(deployment, 12)
    assert all_pages(deployment, "") == [ids[:10], ids[10:]]
    assert all_pages(deployment, "limit=4") == [ids[:4], ids[4:8], ids[8:]]
    assert all_pages(deployment, "limit=100") == [ids]


def test_invoice_cursor_after_new_invoices_continues_at_the_same_invoice(deployment: FunctionHarness) -> None:
    """A cursor is a position in the list, not an offset."""
    ids = store_invoices(deployment, 4)
    cursor = list_invoices(deployment, "limit=2").body["next_cursor"]
    store_invoices(deployment, 3, first=4)
    assert invoice_ids(list_invoices(deployment, f"limit=2&cursor={cursor}")) == ids[2:]


def test_invoices_filtered_by_status_contain_only_that_status(deployment: FunctionHarness) -> None:
    paid_ids = store_invoices(deployment, 3) + store_invoices(deployment, 2, first=6)
    open_ids = store_invoices(deployment, 3, first=3, status="open")
    store_invoices(deployment, 1, first=8, status="uncollectible")
    assert all_pages(deployment, "status=open") == [open_ids]
    assert all_pages(deployment, "status=open&limit=2") == [open_ids[:2], open_ids[2:]]
    assert all_pages(deployment, "status=paid") == [sorted(paid_ids, reverse=True)]
    assert all_pages(deployment, "status=uncollectible") == [["in_8"]]
    assert all_pages(deployment, "status=void") == [[]]


def test_invoices_filtered_by_a_rare_status_are_found_over_several_pages(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request reads at most FILTERED_ROWS_MAX rows. The cursor continues, also after an empty page."""
    assert FILTERED_ROWS_MAX == 500
    monkeypatch.setattr("billing.adapters.repository.FILTERED_ROWS_MAX", 4)
    store_invoices(deployment, 1, status="void")
    store_invoices(deployment, 9, first=1)
    assert [each for page in all_pages(deployment, "status=void") for each in page] == ["in_0"]
    assert invoice_ids(list_invoices(deployment, "status=void")) == []


def test_draft_invoice_is_hidden_until_finalized(deployment: FunctionHarness) -> None:
    """Stripe can still change or delete a draft."""
    store_invoices(deployment, 1)
    store_invoices(deployment, 1, first=1, status="draft", number=None)
    assert all_pages(deployment, "") == [["in_0"]]
    store_invoices(deployment, 1, first=1, status="open")
    assert all_pages(deployment, "") == [["in_1", "in_0"]]


def test_cursor_of_another_account_returns_only_own_invoices(deployment: FunctionHarness) -> None:
    """A cursor is a position in the caller's own list."""
    ids = store_invoices(deployment, 2)
    foreign_cursor = encode_cursor(f"{CREATED + DAY:012d}#in_of_globex")
    assert invoice_ids(list_invoices(deployment, f"cursor={foreign_cursor}")) == ids
    assert invoice_ids(list_invoices(deployment, f"cursor={encode_cursor('000000000000#in_0')}")) == []


INVALID_QUERIES = {
    "limit=0": "limit",
    "limit=101": "limit",
    "limit=-1": "limit",
    "limit=ten": "limit",
    "limit=1.5": "limit",
    "limit=": "limit",
    "limit=5&limit=6": "limit",
    "status=draft": "status",
    "status=PAID": "status",
    "status=": "status",
    "cursor=": "cursor",
    "cursor=in_1": "cursor",
    "cursor=%F0%9F%92%B8": "cursor",
    "cursor=" + "A" * 513: "cursor",
    "cursor=" + encode_cursor("SUB#sub_1"): "cursor",
    "cursor=" + encode_cursor("001780000000#"): "cursor",
    "cursor=" + encode_cursor("001780000000#in_1#x"): "cursor",
    "cursor=" + encode_cursor("1780000000#in_1"): "cursor",
    "cursor=" + encode_cursor("001780000000#in_1") + "=": "cursor",
    "cursor=" + base64.b64encode(b"001780000000#in_~?").decode(): "cursor",
    "cursor=" + base64.urlsafe_b64encode(b"\xff" * 20).decode(): "cursor",
    "page=2": "page",
    "account=globex": "account",
}


def test_invoices_invalid_parameter_returns_400_with_its_name(deployment: FunctionHarness) -> None:
    responses = {query: list_invoices(deployment, query) for query in INVALID_QUERIES}
    assert {(each.status, each.body["error"]["code"]) for each in responses.values()} == {(400, "VALIDATION_FAILED")}
    problems = {
        query: [each["path"] for each in response.body["error"]["details"]] for query, response in responses.items()
    }
    assert problems == {query: [path] for query, path in INVALID_QUERIES.items()}
