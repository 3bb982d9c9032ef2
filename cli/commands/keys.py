"""`billing keys`: API keys of an account."""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from billing.adapters.repository import KeyRecord, Repository
from billing.api.authentication import CACHE_SECONDS_MAX, KeyKind, digest_of, new_key
from billing.domain.timestamps import iso
from cli.errors import CommandFailed
from cli.options import DEFAULT_STACK, AccountId, AsJson, Region, StackName
from cli.output import columns, command_output
from cli.stack import find_stack, load_existing_account

LAST_CHARACTERS = 4

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key, as in `billing keys list`.")]
KindOption = Annotated[
    KeyKind,
    typer.Option("--kind", help="A secret key has access to the whole account, a publishable key to the plans only."),
]

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)


@app.command()
def create(
    account_id: AccountId,
    kind: KindOption = KeyKind.SECRET,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it. It is shown only once, because only its SHA-256 digest is stored."""
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        repository = deployed.repository()
        load_existing_account(repository, account_id)
        record, key = create_key(repository, account_id, kind, livemode=deployed.livemode)
        output.note(f"{record.id}, a {kind} key of {account_id}. Store it now: it cannot be shown again.")
        output.result({**_as_dict(record), "key": key}, key)


@app.command(name="list")
def list_all(
    account_id: AccountId, stack: StackName = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False
) -> None:
    """List an account's keys, including revoked keys."""
    with command_output(as_json=as_json) as output:
        repository = find_stack(stack, region).repository()
        load_existing_account(repository, account_id)
        records = sorted(repository.list_keys(account_id), key=lambda record: record.created)
        output.result({"keys": [_as_dict(record) for record in records]}, _as_text(account_id, records))


@app.command()
def revoke(
    account_id: AccountId,
    key_id: KeyId,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Revoke a key permanently."""
    with command_output(as_json=as_json) as output:
        record = find_stack(stack, region).repository().revoke_key(account_id, key_id, datetime.now(UTC))
        if record is None:
            message = f"The account {account_id} has no key {key_id}: see `billing keys list {account_id}`."
            raise CommandFailed("key_not_found", message)
        output.result(_as_dict(record), f"Revoked {key_id} of {account_id}.")
        output.note(f"Functions that cached the key accept it for up to {CACHE_SECONDS_MAX} s more.")


def create_key(repository: Repository, account_id: str, kind: KeyKind, *, livemode: bool) -> tuple[KeyRecord, str]:
    """Create a key. Returns its record and the key itself."""
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


def _as_dict(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "account_id": record.account_id,
        "kind": record.kind,
        "created": iso(record.created),
        "last_characters": record.last_characters,
        "revoked": iso(record.revoked),
    }


def _as_text(account_id: str, records: list[KeyRecord]) -> str:
    if not records:
        return f"The account {account_id} has no keys. Create one: billing keys create {account_id}"
    rows = [(each.id, each.kind, f"…{each.last_characters}", iso(each.created), iso(each.revoked)) for each in records]
    return columns([("id", "kind", "ends in", "created", "revoked"), *rows])
