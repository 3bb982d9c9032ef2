"""A scheduled run of reconciliation: as many pages as there is time for, and its place kept after each.

The row of its progress is a lease as well: only one run is at work, and one that crashed is taken up where it stopped.
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
"""More than a page takes (PAGE_TIME_BUDGET_SECONDS, and one object more), unless every answer of Stripe's is slow."""
DELAY_SECONDS_MAX = 900


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ReconciliationJob:
    """The runs of one deployment. A message of the queue starts one, and one that names it lets it go on."""

    checkpoints: CheckpointRepository
    reconciler: Reconciler
    queue: Queue
    now: Callable[[], datetime] = field(default=_now)

    def work(self, message: Message, seconds_left: Callable[[], float]) -> None:
        """Go on with the message's run until it has ended or the time is over; then another message goes on.

        Raises StripeUnavailable, StripeRefused and StoreUnavailable, and then the message comes back, later each time.
        """
        run_id = message.body.get("run", message.id)
        try:
            if not self._work_until(run_id, seconds_left):
                self.queue.send({"run": run_id})
        except VersionConflict:
            logger().info("Another reconciliation is at work", run_id=run_id)
        except TryAgainLater as error:
            backoff = min(30 * 2 ** (message.receive_count - 1), DELAY_SECONDS_MAX)
            self.queue.change_visibility(message, max(backoff, error.retry_after_seconds))
            raise

    def _work_until(self, run_id: str, seconds_left: Callable[[], float]) -> bool:
        """Whether nothing is left to be done."""
        found = self.checkpoints.load()
        if found.is_held_by_another(run_id, self.now()):
            logger().info("Another reconciliation is at work", run_id=run_id)
            return True
        progress = self.checkpoints.save(found.acquire_lease(run_id, self.now()))
        while progress.phase and progress.since:
            if seconds_left() < PAGE_SECONDS:
                return False
            progress = self.checkpoints.save(self._turn(progress, progress.phase, progress.since))
        logger().info("Reconciled", run_id=run_id, full_sync_at=progress.full_sync)
        return True

    def _turn(self, progress: Checkpoint, phase: Phase, since: datetime) -> Checkpoint:
        """The progress after the page that is next.

        Where Stripe refuses it, the events are begun anew the next time; a list of objects is left out, so that the
        other list and the next run's events have their turn.
        """
        try:
            report = self.reconciler.page(phase, since, progress.after)
        except StripeRefused:
            if phase is Phase.EVENTS:
                self.checkpoints.save(progress.restart_phase())
                raise
            logger().error("Stripe refuses a list, which is left out: see whether the key may read it", phase=phase)
            count("EventFailed")
            return progress.skip_phase(self.now())
        logger().info("Reconciled a page", extra={"phase": report.phase, **report.counts})
        return progress.advance_page(report.after, self.now())
