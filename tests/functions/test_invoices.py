"""GET /v1/billing/invoices, with whole bodies; and the same invoices as the other contract shows them."""

import base64
from typing import Any

import pytest

from billing.adapters.repository import FILTERED_ROWS_MAX
from billing.domain.invoices import encode_cursor
from tests.functions.conftest import Answer, Deployment
from tests.functions.events import event, invoice

pytestmark = pytest.mark.engine

INVOICES = "/v1/billing/invoices"
CREATED = 1_780_000_000  # 2026-05-28T20:26:40Z
DAY = 86_400


def stored(deployment: Deployment, count: int, *, first: int = 0, **changes: Any) -> list[str]:
    """Let Stripe tell of invoices, each created a day after the one before; their ids, newest first."""
    ids = [f"in_{number}" for number in range(first, first + count)]
    for number, invoice_id in enumerate(ids, first):
        told = invoice(invoice_id, created=CREATED + number * DAY, **changes)
        assert deployment.deliver(event("invoice.updated", told)).body["outcome"] == "applied"
    return ids[::-1]


def listed(deployment: Deployment, query: str = "") -> Answer:
    """The invoices of acme."""
    return deployment.authorized("GET", INVOICES, query=query)


def ids_of(answer: Answer) -> list[str]:
    """Which invoices a page holds."""
    assert answer.status == 200
    return [each["id"] for each in answer.body["invoices"]]


def pages(deployment: Deployment, query: str) -> list[list[str]]:
    """The ids of every page, until there is no next one."""
    answer = listed(deployment, query)
    found = [ids_of(answer)]
    while cursor := answer.body["next_cursor"]:
        answer = listed(deployment, f"{query}&cursor={cursor}")
        found.append(ids_of(answer))
    return found


def test_an_account_without_invoices_has_an_empty_list(deployment: Deployment) -> None:
    """No error, and no next page."""
    assert listed(deployment).body == {"invoices": [], "next_cursor": None}


def test_an_invoice_shows_what_stripe_told(deployment: Deployment) -> None:
    """Amounts in the currency's minor unit, times in ISO 8601, and the pages where it can be read."""
    urls = {"hosted_invoice_url": "https://invoice.stripe.com/i/1", "invoice_pdf": "https://pay.stripe.com/1/pdf"}
    told = invoice(**urls, period_start=CREATED, period_end=CREATED + 30 * DAY)
    deployment.deliver(event("invoice.paid", told))
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
    assert listed(deployment).body == {"invoices": [expected], "next_cursor": None}
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


def test_pages_hold_every_invoice_once(deployment: Deployment) -> None:
    """Newest first, ten a page unless asked otherwise; a last page that is full is not followed by an empty one."""
    ids = stored(deployment, 12)
    assert pages(deployment, "") == [ids[:10], ids[10:]]
    assert pages(deployment, "limit=4") == [ids[:4], ids[4:8], ids[8:]]
    assert pages(deployment, "limit=100") == [ids]


def test_an_invoice_that_comes_meanwhile_moves_nothing(deployment: Deployment) -> None:
    """A cursor stands for a place in the list, not for a number of invoices."""
    ids = stored(deployment, 4)
    cursor = listed(deployment, "limit=2").body["next_cursor"]
    stored(deployment, 3, first=4)
    assert ids_of(listed(deployment, f"limit=2&cursor={cursor}")) == ids[2:]


def test_one_status(deployment: Deployment) -> None:
    """Of each there are its own, in the same order and with the same pages."""
    paid = stored(deployment, 3) + stored(deployment, 2, first=6)
    still_open = stored(deployment, 3, first=3, status="open")
    stored(deployment, 1, first=8, status="uncollectible")
    assert pages(deployment, "status=open") == [still_open]
    assert pages(deployment, "status=open&limit=2") == [still_open[:2], still_open[2:]]
    assert pages(deployment, "status=paid") == [sorted(paid, reverse=True)]
    assert pages(deployment, "status=uncollectible") == [["in_8"]]
    assert pages(deployment, "status=void") == [[]]


def test_a_rare_status_is_found_over_several_pages(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request looks through so many invoices and no more: the cursor leads on, also from an empty page."""
    assert FILTERED_ROWS_MAX == 500
    monkeypatch.setattr("billing.adapters.repository.FILTERED_ROWS_MAX", 4)
    stored(deployment, 1, status="void")
    stored(deployment, 9, first=1)
    assert [each for page in pages(deployment, "status=void") for each in page] == ["in_0"]
    assert ids_of(listed(deployment, "status=void")) == []


def test_drafts_are_not_shown(deployment: Deployment) -> None:
    """Stripe may still change or delete them; they show once they are issued."""
    stored(deployment, 1)
    stored(deployment, 1, first=1, status="draft", number=None)
    assert pages(deployment, "") == [["in_0"]]
    stored(deployment, 1, first=1, status="open")
    assert pages(deployment, "") == [["in_1", "in_0"]]


def test_a_cursor_reaches_no_other_account(deployment: Deployment) -> None:
    """Another account's place in its list is just a place in one's own."""
    ids = stored(deployment, 2)
    elsewhere = encode_cursor(f"{CREATED + DAY:012d}#in_of_globex")
    assert ids_of(listed(deployment, f"cursor={elsewhere}")) == ids
    assert ids_of(listed(deployment, f"cursor={encode_cursor('000000000000#in_0')}")) == []


WRONG = {
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


def test_a_wrong_parameter_is_told(deployment: Deployment) -> None:
    """By its name, each kind of mistake."""
    answers = {query: listed(deployment, query) for query in WRONG}
    assert {(each.status, each.body["error"]["code"]) for each in answers.values()} == {(400, "VALIDATION_FAILED")}
    told = {query: [each["path"] for each in answer.body["error"]["details"]] for query, answer in answers.items()}
    assert told == {query: [path] for query, path in WRONG.items()}
