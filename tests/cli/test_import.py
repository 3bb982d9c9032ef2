"""`billing import`, of a Stripe account that was there before the deployment."""

import json
from pathlib import Path
from typing import Any

import pytest
import stripe
from typer.testing import Result

import billing.adapters.stripe_gateway
from billing.domain.accounts import Profile
from tests.cli.conftest import Billing, Stack, answer, refusal
from tests.cli.stripe_side import customer_of, sell, subscribe, table

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch, stripe_client: stripe.StripeClient) -> None:
    """Nobody else uses this Stripe, which sells what the catalog has."""
    monkeypatch.setattr(billing.adapters.stripe_gateway, "BACKGROUND_REQUESTS_PER_SECOND", 10_000)
    sell(stripe_client)


def incomplete(result: Result) -> dict[str, Any]:
    """What a command found that exited with 3."""
    assert result.exit_code == 3, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def plan(operator: Billing, account_id: str) -> str:
    """What an account is on."""
    return str(answer(operator("accounts", "show", account_id, "--json"))["plan"])


def csv_file(folder: Path, *lines: str, header: str = "customer,account_id") -> str:
    """A mapping as an operator writes it."""
    path = folder / "customers.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def test_accounts_come_from_metadata(operator: Billing, stack: Stack, stripe_client: stripe.StripeClient) -> None:
    """A customer whose metadata names an account becomes it, with plan and invoices; a second run does nothing."""
    for account_id in ("acme", "globex", None):
        subscribe(stripe_client, account_id)
    first = answer(operator("import", "--json"))["customers"]
    assert {(each["account_id"], each["link"]) for each in first["linked"]} == {
        ("acme", "created"),
        ("globex", "created"),
    }
    assert (first["unchanged"], first["unnamed"], first["skipped"]) == (0, 1, [])
    shown = answer(operator("accounts", "show", "acme", "--json"))
    assert (shown["plan"], shown["status"], shown["email"]) == ("pro", "active", "acme@example.com")
    assert len(stack.repository().list_invoices("acme", 10).invoices) == 1
    before = table(stack)
    second = answer(operator("import", "--json"))
    assert (second["customers"]["unchanged"], second["customers"]["linked"], second["findings"]) == (2, [], [])
    assert table(stack) == before


def test_accounts_come_from_a_file(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    """Where Stripe's metadata is silent or says otherwise, the file counts; an account keeps its own e-mail address."""
    operator("accounts", "create", "globex", "--email", "own@globex.example")
    silent, other = subscribe(stripe_client, None), subscribe(stripe_client, "somebody")
    mapping = csv_file(tmp_path, f"{customer_of(silent)},acme", f" {customer_of(other)} , globex ")
    found = answer(operator("import", "--mapping", mapping, "--json"))["customers"]
    assert {(each["account_id"], each["link"]) for each in found["linked"]} == {
        ("acme", "created"),
        ("globex", "linked"),
    }
    assert [plan(operator, each) for each in ("acme", "globex")] == ["pro", "pro"]
    assert stack.repository().load_account("globex").profile.email == "own@globex.example"
    assert stack.repository().load_account("somebody").profile.version == 0


def test_a_dry_run_writes_nothing(operator: Billing, stack: Stack, stripe_client: stripe.StripeClient) -> None:
    """It says which accounts would be created and which rows written, and the table stays empty."""
    subscription = subscribe(stripe_client, "acme")
    found = answer(operator("import", "--dry-run", "--json"))
    assert found["customers"]["linked"] == [
        {"customer": customer_of(subscription), "account_id": "acme", "link": "created"}
    ]
    assert {(each["list"], each["id"]) for each in found["findings"] if each["list"] != "events"} == {
        ("subscriptions", subscription.id),
        ("invoices", subscription.latest_invoice),
    }
    text = operator("import", "--dry-run").stdout
    assert "would be created" in text
    assert table(stack) == []


def test_conflicts_are_told_one_by_one_and_skipped(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    """Each with its line and reason; nothing of them is written, and all the rest is."""
    stack.repository().create_account(Profile("owned", customer_id="cus_other"))
    taken, second, rival, torn, bad, good = (customer_of(subscribe(stripe_client, None)) for _ in range(6))
    stack.repository().create_account(Profile("first", customer_id=taken))
    mapping = csv_file(
        tmp_path,
        f"{taken},another",
        f"{second},twins",
        f"{rival},twins",
        f"{torn},this",
        f"{torn},that",
        f"{bad},a b",
        "cus_gone,ghost",
        ",nobody",
        "cus_alone",
        f"{good},acme",
        f"{good}, acme",
        "cus_more,extra,eu",
    )
    found = incomplete(operator("import", "--mapping", mapping, "--json"))["customers"]
    reasons = {each["origin"]: each["reason"] for each in found["skipped"]}
    assert reasons == {
        "line 2": "it belongs to the account first",
        "line 3": f"the account twins is also to have {rival}",
        "line 4": f"the account twins is also to have {second}",
        "line 5": "line 6 says otherwise",
        "line 6": "line 5 says otherwise",
        "line 7": "an account id has 1 to 255 visible ASCII characters, and no #",
        "line 8": "Stripe has no such customer",
        "line 9": "this is no Stripe customer",
        "line 10": "an account id has 1 to 255 visible ASCII characters, and no #",
        "line 13": "it has more fields than the first line",
    }
    assert list(reasons) == [f"line {number}" for number in (*range(2, 11), 13)]
    assert [each["account_id"] for each in found["linked"]] == ["acme"]
    assert plan(operator, "acme") == "pro"
    for account_id in ("another", "twins", "ghost", "nobody", "this", "that", "extra"):
        assert stack.repository().load_account(account_id).profile.version == 0
    shown = operator("import", "--mapping", mapping).stderr
    assert f"Skipped: line 2: {taken} for another: it belongs to the account first" in shown


def test_a_file_full_of_wrong_lines(operator: Billing, tmp_path: Path) -> None:
    """A person is told the first hundred, in the order of the file, and how many there are; a program all."""
    mapping = csv_file(tmp_path, *(f"cus_{number % 50},a b" for number in range(1_600)))
    *lines, last = operator("import", "--mapping", mapping).stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [f"line {number}" for number in range(2, 102)]
    assert last == "… and 1,500 more, which --json tells."
    assert len(incomplete(operator("import", "--mapping", mapping, "--json"))["customers"]["skipped"]) == 1_600


LONG = "c" * 140_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b'customer,account_id\ncus_1,acme\n"cus_2,a\nb',
            "is not CSV: unexpected end of data, in what begins on line 3",
        ),
        (f"customer,account_id\n{LONG},acme".encode(), "(131072), in what begins on line 2"),
        ("customer,account_id\nMüller,acme".encode("latin-1"), "is not UTF-8"),
    ],
    ids=["quote", "length", "encoding"],
)
def test_a_file_that_cannot_be_read(operator: Billing, tmp_path: Path, content: bytes, said: str) -> None:
    """What is wrong and where, so that the line is found."""
    path = tmp_path / "customers.csv"
    path.write_bytes(content)
    assert said in refusal(operator("import", "--mapping", str(path), "--json"))["message"]


@pytest.mark.parametrize("lines", [["{},acme corp"], ["{},acme", "{},globex"], ["{},globex", "{},"]])
def test_a_corrected_file_is_taken(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, tmp_path: Path, lines: list[str]
) -> None:
    """A customer that a wrong line names is left alone, whatever its metadata says, until the line is right."""
    customer = customer_of(subscribe(stripe_client, "somebody"))
    mapping = csv_file(tmp_path, *(line.format(customer) for line in lines))
    found = incomplete(operator("import", "--mapping", mapping, "--json"))["customers"]
    assert found["linked"] == []
    assert [each["origin"] for each in found["skipped"]] == [*(f"line {n}" for n, _ in enumerate(lines, 2)), "metadata"]
    assert stack.repository().find_owners([customer]) == {}
    corrected = csv_file(tmp_path, f"{customer},acme")
    assert answer(operator("import", "--mapping", corrected, "--json"))["customers"]["linked"] == [
        {"customer": customer, "account_id": "acme", "link": "created"}
    ]


def test_what_is_skipped_keeps_its_rival_away(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    """A wrong line about one of two customers for one account decides nothing about the other."""
    torn, beside = (customer_of(subscribe(stripe_client, "twins")) for _ in range(2))
    mapping = csv_file(tmp_path, f"{torn},a b")
    found = incomplete(operator("import", "--mapping", mapping, "--json"))["customers"]
    assert {each["customer"]: each["reason"] for each in found["skipped"] if each["origin"] == "metadata"} == {
        torn: "a line of the file names it, and is skipped",
        beside: f"the account twins is also to have {torn}",
    }
    assert found["linked"] == []
    assert stack.repository().load_account("twins").profile.version == 0


def test_a_line_beats_metadata(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    """The account gets the customer that the file says, and whom only metadata names is told and left alone."""
    operator("accounts", "create", "twins")
    new, old = subscribe(stripe_client, None), subscribe(stripe_client, "twins")
    mapping = csv_file(tmp_path, f"{customer_of(new)},twins")
    found = incomplete(operator("import", "--mapping", mapping, "--json"))
    assert found["customers"]["linked"] == [{"customer": customer_of(new), "account_id": "twins", "link": "linked"}]
    assert found["customers"]["skipped"] == [
        {
            "origin": "metadata",
            "customer": customer_of(old),
            "account_id": "twins",
            "reason": f"the account twins is also to have {customer_of(new)}",
        }
    ]
    assert [each.id for each in stack.repository().load_account("twins").subscriptions] == [new.id]


def test_an_account_in_conflict_gets_no_customer(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient
) -> None:
    """What was told to be skipped is not linked after all by the comparison that follows."""
    operator("accounts", "create", "twins")
    rivals = [customer_of(subscribe(stripe_client, "twins")) for _ in range(2)]
    for words in (["--dry-run"], []):
        found = incomplete(operator("import", *words, "--json"))
        assert {each["customer"] for each in found["customers"]["skipped"]} == {*rivals}
        assert (found["unknown_customer"]["subscriptions"], found["unknown_customer"]["invoices"]) == (2, 2)
        assert found["differences"] == 0
    assert stack.repository().load_account("twins").profile.customer_id is None
    assert stack.repository().find_owners(rivals) == {}


def test_an_account_keeps_its_customer(operator: Billing, stack: Stack, stripe_client: stripe.StripeClient) -> None:
    """A second customer for an account that has one is a conflict, whoever is listed first; the first one stays."""
    first = subscribe(stripe_client, "acme")
    answer(operator("import", "--json"))
    second = subscribe(stripe_client, "acme")
    found = incomplete(operator("import", "--json"))["customers"]
    assert found["skipped"] == [
        {
            "origin": "metadata",
            "customer": customer_of(second),
            "account_id": "acme",
            "reason": f"the account acme has the customer {customer_of(first)}",
        }
    ]
    assert found["unchanged"] == 1
    assert [each.id for each in stack.repository().load_account("acme").subscriptions] == [first.id]


@pytest.mark.parametrize("content", ["", "cus_1,acme\n", "customer;account_id\n", 'customer,account_id\n"cus_1,a'])
def test_a_file_that_is_no_mapping(operator: Billing, stack: Stack, tmp_path: Path, content: str) -> None:
    """Nothing is begun with a file that cannot be meant."""
    path = tmp_path / "customers.csv"
    path.write_text(content)
    assert refusal(operator("import", "--mapping", str(path), "--json"))["code"] == "mapping_unreadable"
    assert table(stack) == []


def test_a_file_that_is_not_there(operator: Billing) -> None:
    """Is a wrong command line."""
    assert operator("import", "--mapping", "/nowhere.csv").exit_code == 2
