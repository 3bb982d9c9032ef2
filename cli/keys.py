"""`billing keys`: what an account's servers authenticate with."""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from billing.adapters.repository import KeyRecord, Repository
from billing.api.authentication import CACHE_SECONDS_MAX, KeyKind, digest_of, new_key
from billing.domain.timestamps import iso
from cli.accounts import load_existing
from cli.deployment import find_deployment
from cli.failures import refuse
from cli.options import DEFAULT_STACK, AccountId, AsJson, Region, Stack
from cli.output import columns, reporting

LAST_CHARACTERS = 4

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="What `billing keys list` shows.")]

Kind = Annotated[
    KeyKind, typer.Option("--kind", help="A secret key acts for the account; a publishable one may read plans only.")
]

app = typer.Typer(help="Create, list and revoke keys.", no_args_is_help=True)


@app.command()
def create(
    account_id: AccountId,
    kind: Kind = KeyKind.SECRET,
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it, this once: only its SHA-256 is kept."""
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        repository = deployment.repository()
        load_existing(repository, account_id)
        record, key = create_key(repository, account_id, kind, livemode=deployment.livemode)
        output.note(f"{record.id}, a {kind} key of {account_id}. Keep it: it cannot be shown again.")
        output.result({**_facts(record), "key": key}, key)


@app.command(name="list")
def list_all(
    account_id: AccountId, stack: Stack = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False
) -> None:
    """List an account's keys, revoked ones too."""
    with reporting(as_json=as_json) as output:
        repository = find_deployment(stack, region).repository()
        load_existing(repository, account_id)
        records = sorted(repository.list_keys(account_id), key=lambda record: record.created)
        output.result({"keys": [_facts(record) for record in records]}, _shown(account_id, records))


@app.command()
def revoke(
    account_id: AccountId,
    key_id: KeyId,
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Stop a key from working, for good."""
    with reporting(as_json=as_json) as output:
        record = find_deployment(stack, region).repository().revoke_key(account_id, key_id, datetime.now(UTC))
        if record is None:
            refuse("key_not_found", f"{account_id} has no key {key_id}: see `billing keys list {account_id}`.")
        output.result(_facts(record), f"Revoked {key_id} of {account_id}.")
        output.note(f"Functions that have just seen it may take it for up to {CACHE_SECONDS_MAX} s more.")


def create_key(repository: Repository, account_id: str, kind: KeyKind, *, livemode: bool) -> tuple[KeyRecord, str]:
    """Store a new key, and answer it with its record."""
    key = new_key(kind, livemode=livemode)
    record = KeyRecord(
        id=f"key_{secrets.token_hex(8)}",
        account_id=account_id,
        kind=kind,
        created=datetime.now(UTC),
        last_characters=key[-LAST_CHARACTERS:],
    )
    repository.create_key(digest_of(key), record)
    return record, key


def _facts(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "account_id": record.account_id,
        "kind": record.kind,
        "created": iso(record.created),
        "last_characters": record.last_characters,
        "revoked": iso(record.revoked),
    }


def _shown(account_id: str, records: list[KeyRecord]) -> str:
    if not records:
        return f"{account_id} has no keys. Create one: billing keys create {account_id}"
    rows = [(each.id, each.kind, f"…{each.last_characters}", iso(each.created), iso(each.revoked)) for each in records]
    return columns([("id", "kind", "ends in", "created", "revoked"), *rows])
