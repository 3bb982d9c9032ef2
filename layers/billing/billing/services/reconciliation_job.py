"""Scheduled reconciliation: a run reconciles as many pages as it has time for, and stores a checkpoint after each.

The checkpoint is also a lease: one run works at a time, and the next run continues where a crashed one stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from billing.adapters.reconciliation_checkpoint import CheckpointRepository
from billing.adapters.repository import VersionConflict
from billing.adapters.sqs import Message, Queue
from billing.domain.errors import StripeRefused, TryAgainLater
from billing.services.reconciler import Reconciler
from billing.stripe_events.drift import Checkpoint, Phase
from billing.telemetry import count, logger

PAGE_SECONDS = 600
"""Time reserved for a page: PAGE_TIME_BUDGET_SECONDS, one more object, and a margin for slow responses."""
DELAY_SECONDS_MAX = 900


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ReconciliationJob:
    """Runs of one deployment. A message of the queue starts a run, or continues the run that it names."""

    checkpoints: CheckpointRepository
    reconciler: Reconciler
    queue: Queue
    now: Callable[[], datetime] = field(default=_now)

    def work(self, message: Message, seconds_left: Callable[[], float]) -> None:
        """Work on a run until it ends or the time is over. In the second case, send a message that continues it.

        If an error is temporary, the message is delivered again, with a longer delay each time.

        Args:
            message: Message that Lambda received.
            seconds_left: Returns the time until Lambda ends the function.

        Raises:
            TryAgainLater: Stripe, DynamoDB or SQS fails, or Stripe rejects the event list.
        """
        run_id = message.body.get("run", message.id)
        try:
            if not self._run(run_id, seconds_left):
                self.queue.send({"run": run_id})
        except VersionConflict:
            logger().info("Another reconciliation run is active", run_id=run_id)
        except TryAgainLater as error:
            backoff = min(30 * 2 ** (message.receive_count - 1), DELAY_SECONDS_MAX)
            self.queue.change_visibility(message, max(backoff, error.retry_after_seconds))
            raise

    def _run(self, run_id: str, seconds_left: Callable[[], float]) -> bool:
        """Reconcile page after page. Returns False if the time is over before the run ends."""
        stored = self.checkpoints.load()
        if stored.is_held_by_another(run_id, self.now()):
            logger().info("Another reconciliation run is active", run_id=run_id)
            return True
        checkpoint = self.checkpoints.save(stored.acquire_lease(run_id, self.now()))
        while checkpoint.phase and checkpoint.since:
            if seconds_left() < PAGE_SECONDS:
                return False
            checkpoint = self.checkpoints.save(self._run_page(checkpoint, checkpoint.phase, checkpoint.since))
        logger().info("Full sync finished" if checkpoint.full_sync else "Event sync finished", run_id=run_id)
        return True

    def _run_page(self, checkpoint: Checkpoint, phase: Phase, since: datetime) -> Checkpoint:
        """Reconcile the next page and return the checkpoint after it.

        If Stripe rejects a page of events, the next attempt begins with the first page. If it rejects a list of
        objects, the list is skipped, so that the other list and later events are still reconciled.
        """
        try:
            result = self.reconciler.page(phase, since, checkpoint.after)
        except StripeRefused:
            if phase is Phase.EVENTS:
                self.checkpoints.save(checkpoint.restart_phase())
                raise
            logger().error("Stripe rejected a list, list skipped: check that the API key may read it", phase=phase)
            count("EventFailed")
            return checkpoint.skip_phase(self.now())
        logger().info("Page reconciled", extra={"phase": result.phase, **result.counts})
        return checkpoint.advance_page(result.after, self.now())
