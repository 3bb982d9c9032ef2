"""DynamoDB repository for the checkpoint of reconciliation: one item, written on its version."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from billing.adapters.dynamodb import Item, Table, WriteRejected, put
from billing.adapters.repository import VersionConflict, from_seconds, to_seconds
from billing.stripe_events.drift import Checkpoint, Phase

CHECKPOINT_KEY = {"pk": "RECONCILIATION", "sk": "PROGRESS"}

# Field of Checkpoint -> stored attribute.
ATTRIBUTES: Mapping[str, str] = {
    "version": "version",
    "run_id": "run_id",
    "leased_until": "leased_until",
    "began": "began",
    "since": "since",
    "full_sync": "sweeps",
    "phase": "step",
    "after": "after",
    "page_at": "turned_at",
    "incomplete": "left_out",
    "events_until": "events_until",
    "full_sync_at": "swept",
}
TIMES = frozenset({"leased_until", "began", "since", "page_at", "events_until", "full_sync_at"})


class CheckpointRepository:
    """Loads and saves the checkpoint."""

    def __init__(self, table: Table) -> None:
        """Create a repository on the table of any DynamoDB engine."""
        self._table = table

    def load(self) -> Checkpoint:
        """Return the checkpoint; a new one if reconciliation has never run. Raises StoreUnavailable."""
        item = self._table.get(**CHECKPOINT_KEY)
        return Checkpoint() if item is None else Checkpoint(**_from_item(item))

    def save(self, checkpoint: Checkpoint) -> Checkpoint:
        """Write the checkpoint over the version that was read.

        Returns:
            The checkpoint with its new version.

        Raises:
            VersionConflict: Another run wrote it in the meantime.
            StoreUnavailable: DynamoDB is not available.
        """
        saved = replace(checkpoint, version=checkpoint.version + 1)
        condition = "version = :version" if checkpoint.version else "attribute_not_exists(pk)"
        values = {":version": checkpoint.version} if checkpoint.version else None
        try:
            self._table.transact([put(_to_item(saved), condition, values)])
        except WriteRejected as error:
            raise VersionConflict from error
        return saved


def _to_item(checkpoint: Checkpoint) -> Item:
    values = {field: getattr(checkpoint, field) for field in ATTRIBUTES}
    stored = {
        ATTRIBUTES[field]: to_seconds(value) if isinstance(value, datetime) else value
        for field, value in values.items()
        if value is not None
    }
    return {**CHECKPOINT_KEY, **stored}


def _from_item(item: Item) -> Item:
    values = {field: item[attribute] for field, attribute in ATTRIBUTES.items() if attribute in item}
    values |= {field: from_seconds(values[field]) for field in TIMES & values.keys()}
    return values | ({"phase": Phase(values["phase"])} if "phase" in values else {})
