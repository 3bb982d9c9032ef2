"""Tests of `billing import`."""

from collections.abc import Callable
from pathlib import Path

import pytest
import stripe

from billing.domain.accounts import Profile
from tests.cli.support import (
    DeployedStack,
    RunBilling,
    StripeAccount,
    create_subscription,
    customer_id_of,
    json_error,
    json_output,
    table_items,
)

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("stripe_price")]


def plan_of(run_with_stripe: RunBilling, account_id: str) -> str:
    """Return an account's plan."""
    return str(json_output(run_with_stripe("accounts", "show", account_id, "--json"))["plan"])


def csv_file(folder: Path, *lines: str, header: str = "customer,account_id") -> str:
    """Write a mapping file. Returns its path."""
    path = folder / "customers.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def test_import_creates_accounts_from_metadata(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    """A second run changes nothing."""
    for account_id in ("acme", "globex", None):
        create_subscription(stripe_client, account_id)
    first = json_output(run_with_stripe("import", "--json"))["customers"]
    assert {(each["account_id"], each["link"]) for each in first["linked"]} == {
        ("acme", "created"),
        ("globex", "created"),
    }
    assert (first["unchanged"], first["unnamed"], first["skipped"]) == (0, 1, [])
    assert first["metadata_written"] == 2
    shown = json_output(run_with_stripe("accounts", "show", "acme", "--json"))
    assert (shown["plan"], shown["status"], shown["email"]) == ("pro", "active", "acme@example.com")
    assert len(stack.repository().list_invoices("acme", 10).invoices) == 1
    before = table_items(stack)
    second = json_output(run_with_stripe("import", "--json"))
    assert (second["customers"]["unchanged"], second["customers"]["linked"], second["findings"]) == (2, [], [])
    assert second["customers"]["metadata_written"] == 0
    assert table_items(stack) == before


def test_import_takes_the_file_over_metadata_only_if_the_operator_insists(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    """An existing account keeps its own e-mail address."""
    run_with_stripe("accounts", "create", "globex", "--email", "own@globex.example")
    silent, other = create_subscription(stripe_client, None), create_subscription(stripe_client, "somebody")
    mapping = csv_file(tmp_path, f"{customer_id_of(silent)},acme", f" {customer_id_of(other)} , globex ")
    found = json_output(run_with_stripe("import", "--mapping", mapping, "--json"), exit_code=3)["customers"]
    assert [(each["account_id"], each["link"]) for each in found["linked"]] == [("acme", "created")]
    [skipped] = found["skipped"]
    assert skipped["origin"] == "line 3"
    assert skipped["reason"] == ("its metadata names the account somebody; correct it in Stripe, or use --take-over")
    found = json_output(run_with_stripe("import", "--mapping", mapping, "--take-over", "--json"))["customers"]
    assert [(each["account_id"], each["link"]) for each in found["linked"]] == [("globex", "linked")]
    assert stack.repository().load_account("globex").profile.confirmed_customers == (customer_id_of(other),)
    assert [plan_of(run_with_stripe, each) for each in ("acme", "globex")] == ["pro", "pro"]
    assert stack.repository().load_account("globex").profile.email == "own@globex.example"
    assert stack.repository().load_account("somebody").profile.version == 0


def test_import_dry_run_lists_accounts_and_rows_and_writes_nothing(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    subscription = create_subscription(stripe_client, "acme")
    found = json_output(run_with_stripe("import", "--dry-run", "--json"))
    assert found["customers"]["linked"] == [
        {"customer": customer_id_of(subscription), "account_id": "acme", "link": "created"}
    ]
    assert {(each["list"], each["id"]) for each in found["findings"] if each["list"] != "events"} == {
        ("subscriptions", subscription.id),
        ("invoices", subscription.latest_invoice),
    }
    text = run_with_stripe("import", "--dry-run").stdout
    assert "would be created" in text
    assert "metadata would be written  1" in text
    assert found["customers"]["metadata_written"] == 1
    assert table_items(stack) == []
    assert metadata_of(stripe_client, customer_id_of(subscription)) == {"account_id": "acme"}


def test_import_skips_each_conflict_with_its_line_and_reason(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    """All other customers are imported."""
    stack.repository().create_account(Profile("owned", customer_id="cus_other"))
    taken, second, rival, torn, bad, good = (customer_id_of(create_subscription(stripe_client, None)) for _ in range(6))
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
    found = json_output(run_with_stripe("import", "--mapping", mapping, "--json"), exit_code=3)["customers"]
    reasons = {each["origin"]: each["reason"] for each in found["skipped"]}
    assert reasons == {
        "line 2": "it belongs to the account first",
        "line 3": f"the account twins is also requested for {rival}",
        "line 4": f"the account twins is also requested for {second}",
        "line 5": "line 6 names another account",
        "line 6": "line 5 names another account",
        "line 7": "the account id is invalid: it has 1 to 255 visible ASCII characters without #",
        "line 8": "Stripe does not have the customer",
        "line 9": "the customer id is invalid",
        "line 10": "the account id is invalid: it has 1 to 255 visible ASCII characters without #",
        "line 13": "it has more fields than the first line",
    }
    assert list(reasons) == [f"line {number}" for number in (*range(2, 11), 13)]
    assert [each["account_id"] for each in found["linked"]] == ["acme"]
    assert plan_of(run_with_stripe, "acme") == "pro"
    for account_id in ("another", "twins", "ghost", "nobody", "this", "that", "extra"):
        assert stack.repository().load_account(account_id).profile.version == 0
    shown = run_with_stripe("import", "--mapping", mapping).stderr
    assert f"Skipped: line 2: {taken} for another: it belongs to the account first" in shown


def test_import_prints_the_first_hundred_skipped_lines(run_with_stripe: RunBilling, tmp_path: Path) -> None:
    """The JSON output has all of them."""
    mapping = csv_file(tmp_path, *(f"cus_{number % 50},a b" for number in range(1_600)))
    *lines, last = run_with_stripe("import", "--mapping", mapping).stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [f"line {number}" for number in range(2, 102)]
    assert last == "… and 1,500 more; --json shows all."
    assert (
        len(json_output(run_with_stripe("import", "--mapping", mapping, "--json"), exit_code=3)["customers"]["skipped"])
        == 1_600
    )


LONG = "c" * 140_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'customer,account_id\ncus_1,acme\n"cus_2,a\nb',
            "is not valid CSV: unexpected end of data, in the record that starts on line 3",
        ),
        (f"customer,account_id\n{LONG},acme".encode(), "(131072), in the record that starts on line 2"),
        ("customer,account_id\nMüller,acme".encode("latin-1"), "is not UTF-8"),
    ],
    ids=["quote", "length", "encoding"],
)
def test_import_of_unreadable_file_fails_with_cause_and_line(
    run_with_stripe: RunBilling, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "customers.csv"
    path.write_bytes(content)
    assert message in json_error(run_with_stripe("import", "--mapping", str(path), "--json"))["message"]


@pytest.mark.parametrize("lines", [["{},acme corp"], ["{},acme", "{},globex"], ["{},globex", "{},"]])
def test_import_links_a_customer_once_its_line_is_corrected(
    run_with_stripe: RunBilling,
    stack: DeployedStack,
    stripe_client: stripe.StripeClient,
    tmp_path: Path,
    lines: list[str],
) -> None:
    """Until then the customer is skipped, although its metadata names an account."""
    customer = customer_id_of(create_subscription(stripe_client, "acme"))
    mapping = csv_file(tmp_path, *(line.format(customer) for line in lines))
    found = json_output(run_with_stripe("import", "--mapping", mapping, "--json"), exit_code=3)["customers"]
    assert found["linked"] == []
    assert [each["origin"] for each in found["skipped"]] == [*(f"line {n}" for n, _ in enumerate(lines, 2)), "metadata"]
    assert stack.repository().find_owners([customer]) == {}
    corrected = csv_file(tmp_path, f"{customer},acme")
    assert json_output(run_with_stripe("import", "--mapping", corrected, "--json"))["customers"]["linked"] == [
        {"customer": customer, "account_id": "acme", "link": "created"}
    ]


def test_import_skips_other_customers_of_an_account_with_an_invalid_line(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    torn, beside = (customer_id_of(create_subscription(stripe_client, "twins")) for _ in range(2))
    mapping = csv_file(tmp_path, f"{torn},a b")
    found = json_output(run_with_stripe("import", "--mapping", mapping, "--json"), exit_code=3)["customers"]
    assert {each["customer"]: each["reason"] for each in found["skipped"] if each["origin"] == "metadata"} == {
        torn: "a line of the file names it and is skipped",
        beside: f"the account twins is also requested for {torn}",
    }
    assert found["linked"] == []
    assert stack.repository().load_account("twins").profile.version == 0


def test_import_links_the_customer_of_the_file_and_skips_the_one_of_metadata(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    run_with_stripe("accounts", "create", "twins")
    new, old = create_subscription(stripe_client, None), create_subscription(stripe_client, "twins")
    mapping = csv_file(tmp_path, f"{customer_id_of(new)},twins")
    found = json_output(run_with_stripe("import", "--mapping", mapping, "--json"), exit_code=3)
    assert found["customers"]["linked"] == [{"customer": customer_id_of(new), "account_id": "twins", "link": "linked"}]
    assert found["customers"]["skipped"] == [
        {
            "origin": "metadata",
            "customer": customer_id_of(old),
            "account_id": "twins",
            "reason": f"the account twins is also requested for {customer_id_of(new)}",
        }
    ]
    assert [each.id for each in stack.repository().load_account("twins").subscriptions] == [new.id]


def test_import_links_no_customer_in_the_reconciliation_after_a_conflict(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    run_with_stripe("accounts", "create", "twins")
    rivals = [customer_id_of(create_subscription(stripe_client, "twins")) for _ in range(2)]
    for words in (["--dry-run"], []):
        found = json_output(run_with_stripe("import", *words, "--json"), exit_code=3)
        assert {each["customer"] for each in found["customers"]["skipped"]} == {*rivals}
        assert (found["unknown_customer"]["subscriptions"], found["unknown_customer"]["invoices"]) == (2, 2)
        assert found["differences"] == 0
    assert stack.repository().load_account("twins").profile.customer_id is None
    assert stack.repository().find_owners(rivals) == {}


def test_import_skips_a_second_customer_of_an_account(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    first = create_subscription(stripe_client, "acme")
    json_output(run_with_stripe("import", "--json"))
    second = create_subscription(stripe_client, "acme")
    found = json_output(run_with_stripe("import", "--json"), exit_code=3)["customers"]
    assert found["skipped"] == [
        {
            "origin": "metadata",
            "customer": customer_id_of(second),
            "account_id": "acme",
            "reason": f"the account acme has the customer {customer_id_of(first)}",
        }
    ]
    assert found["unchanged"] == 1
    assert [each.id for each in stack.repository().load_account("acme").subscriptions] == [first.id]


@pytest.mark.parametrize("content", ["", "cus_1,acme\n", "customer;account_id\n", 'customer,account_id\n"cus_1,a'])
def test_import_of_file_without_header_fails_before_writing(
    run_with_stripe: RunBilling, stack: DeployedStack, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "customers.csv"
    path.write_text(content)
    assert json_error(run_with_stripe("import", "--mapping", str(path), "--json"))["code"] == "mapping_unreadable"
    assert table_items(stack) == []


def test_import_of_missing_file_is_a_usage_error(run_with_stripe: RunBilling) -> None:
    assert run_with_stripe("import", "--mapping", "/nowhere.csv").exit_code == 2


# --- Other deployments and operators' decisions -----------------------------------------------------------------------


def test_import_leaves_out_customers_of_other_deployments(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    """Their subscriptions are out of scope, too, whatever the file says."""
    foreign, own = (create_subscription(stripe_client, name) for name in ("acme", "globex"))
    for subscription, deployment_id in ((foreign, "other"), (own, stack.name)):
        metadata = {"metadata": {"billing_deployment": deployment_id}}
        stripe_client.v1.customers.update(customer_id_of(subscription), metadata)  # type: ignore[arg-type]
    found = json_output(run_with_stripe("import", "--json"))
    assert [each["account_id"] for each in found["customers"]["linked"]] == ["globex"]
    assert (found["customers"]["other_deployments"], found["customers"]["skipped"]) == (1, [])
    assert stack.repository().load_account("acme").profile.version == 0
    mapping = csv_file(tmp_path, f"{customer_id_of(foreign)},acme")
    again = json_output(run_with_stripe("import", "--mapping", mapping, "--take-over", "--json"), exit_code=3)
    assert [each["reason"] for each in again["customers"]["skipped"]] == ["its metadata names the deployment other"]
    assert stack.repository().load_account("acme").profile.version == 0


def test_import_does_not_link_an_unlinked_customer_again_unless_the_file_names_it(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    customer = customer_id_of(create_subscription(stripe_client, "acme"))
    run_with_stripe("import")
    json_output(run_with_stripe("accounts", "unlink", "acme", customer, "--json"))
    found = json_output(run_with_stripe("import", "--json"), exit_code=3)["customers"]
    assert [each["reason"] for each in found["skipped"]] == ["an operator unlinked it from the account acme"]
    assert plan_of(run_with_stripe, "acme") == "free"
    mapping = csv_file(tmp_path, f"{customer},acme")
    run_with_stripe("import", "--mapping", mapping)
    assert plan_of(run_with_stripe, "acme") == "pro"


def test_import_writes_an_audit_entry_for_each_link(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    create_subscription(stripe_client, "acme")
    run_with_stripe("import")
    events = json_output(run_with_stripe("events", "list", "--account", "acme", "--json"))["events"]
    [entry] = [each for each in events if each["type"] == "operator.customer_linked"]
    assert entry["reason"] == "linked by an import, from metadata"


# --- Metadata of the customers ----------------------------------------------------------------------------------------


def metadata_of(client: stripe.StripeClient, customer: str) -> dict[str, str]:
    """Return the metadata of a customer."""
    metadata = client.v1.customers.retrieve(customer).metadata
    return metadata.to_dict() if metadata else {}


def test_import_writes_account_and_deployment_into_the_metadata_of_each_linked_customer(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, tmp_path: Path
) -> None:
    """Values that a customer has are kept, also with --take-over. A skipped customer is left alone."""
    silent, named, other, skipped = (
        customer_id_of(create_subscription(stripe_client, each)) for each in (None, "globex", "somebody", "rival")
    )
    mapping = csv_file(tmp_path, f"{silent},acme", f"{other},initech", f"{skipped},a b")
    json_output(run_with_stripe("import", "--mapping", mapping, "--take-over", "--json"), exit_code=3)
    own = {"billing_deployment": stack.name}
    assert metadata_of(stripe_client, silent) == {"account_id": "acme"} | own
    assert metadata_of(stripe_client, named) == {"account_id": "globex"} | own
    assert metadata_of(stripe_client, other) == {"account_id": "somebody"} | own
    assert metadata_of(stripe_client, skipped) == {"account_id": "rival"}


def test_import_writes_the_metadata_of_customers_that_are_linked_already(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    """An earlier version linked them without it."""
    customer = customer_id_of(create_subscription(stripe_client, "acme"))
    stack.repository().create_account(Profile("acme", customer_id=customer))
    found = json_output(run_with_stripe("import", "--json"))["customers"]
    assert (found["unchanged"], found["metadata_written"]) == (1, 1)
    assert metadata_of(stripe_client, customer)["billing_deployment"] == stack.name


def test_import_that_cannot_write_metadata_fails_and_a_second_run_continues(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    for account_id in ("acme", "globex"):
        create_subscription(stripe_client, account_id)
    stripe_account.fail("status:403", "POST", "/v1/customers/")
    error = json_error(run_with_stripe("import", "--json"))
    assert error["code"] == "customer_not_marked"
    assert "run the command again" in error["message"]
    assert [plan_of(run_with_stripe, each) for each in ("acme", "globex")] == ["pro", "pro"]
    found = json_output(run_with_stripe("import", "--json"))["customers"]
    assert (found["unchanged"], found["metadata_written"]) == (2, 2)
    assert stack.repository().load_account("acme").profile.customer_id


def test_customer_that_one_deployment_imported_is_left_out_by_another(
    run_with_stripe: RunBilling,
    stack: DeployedStack,
    deploy: Callable[..., DeployedStack],
    stripe_client: stripe.StripeClient,
) -> None:
    customer = customer_id_of(create_subscription(stripe_client, "acme"))
    other = deploy()
    json_output(run_with_stripe("import", "--json"))
    found = json_output(run_with_stripe("import", "--stack", other.name, "--json"))["customers"]
    assert (found["linked"], found["other_deployments"]) == ([], 1)
    assert stack.repository().find_owners([customer]) == {customer: "acme"}
    assert other.repository().load_account("acme").profile.version == 0
