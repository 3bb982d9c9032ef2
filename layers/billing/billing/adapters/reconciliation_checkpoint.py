"""DynamoDB repository for the checkpoint of reconciliation: one item, written on its version."""

from dataclasses import replace

from billing.adapters.dynamodb import Table, WriteRejected, put
from billing.adapters.item_codec import ItemCodec
from billing.adapters.repository import VersionConflict
from billing.stripe_events.drift import Checkpoint, Phase

CHECKPOINT_KEY = {"pk": "RECONCILIATION", "sk": "PROGRESS"}

CHECKPOINT = ItemCodec(
    Checkpoint,
    plain=("version", "run_id", "full_sync", "after", "incomplete"),
    times=("leased_until", "began", "since", "page_at", "events_until", "full_sync_at"),
    enums={"phase": Phase},
    attributes={
        "full_sync": "sweeps",
        "phase": "step",
        "page_at": "turned_at",
        "incomplete": "left_out",
        "full_sync_at": "swept",
    },
)


class CheckpointRepository:
    """Loads and saves the checkpoint."""

    def __init__(self, table: Table) -> None:
        """Create a repository on the table of any DynamoDB engine."""
        self._table = table

    def load(self) -> Checkpoint:
        """Return the checkpoint; a new one if reconciliation has never run. Raises StoreUnavailable."""
        item = self._table.get(**CHECKPOINT_KEY)
        return Checkpoint() if item is None else CHECKPOINT.decode(item)

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
            self._table.transact({"checkpoint": put(CHECKPOINT_KEY | CHECKPOINT.encode(saved), condition, values)})
        except WriteRejected as error:
            raise VersionConflict from error
        return saved
