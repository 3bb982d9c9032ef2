"""A scheduled run of reconciliation: as many pages as there is time for, and its place kept after each.

The row of its progress is a lease as well: only one run is at work, and one that crashed is taken up where it stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from billing.adapters.repository import Store, VersionConflict
from billing.adapters.sqs import Message, Queue
from billing.domain.errors import StripeRefused, TryAgainLater
from billing.services.reconciler import Reconciler
from billing.stripe_events.drift import Progress, Step
from billing.telemetry import count, logger

PAGE_SECONDS = 600
"""More than a page takes (PATIENCE_SECONDS, and one object more), unless every answer of Stripe's is slow."""
DELAY_SECONDS_MAX = 900


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ReconciliationRun:
    """The runs of one deployment. A message of the queue starts one, and one that names it lets it go on."""

    store: Store
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
            backoff = min(30 * 2 ** (message.receives - 1), DELAY_SECONDS_MAX)
            self.queue.hide(message, max(backoff, error.retry_after_seconds))
            raise

    def _work_until(self, run_id: str, seconds_left: Callable[[], float]) -> bool:
        """Whether nothing is left to be done."""
        found = self.store.load_progress()
        if found.is_held_by_another(run_id, self.now()):
            logger().info("Another reconciliation is at work", run_id=run_id)
            return True
        progress = self.store.save_progress(found.taken_up(run_id, self.now()))
        while progress.step and progress.since:
            if seconds_left() < PAGE_SECONDS:
                return False
            progress = self.store.save_progress(self._turn(progress, progress.step, progress.since))
        logger().info("Reconciled", run_id=run_id, swept=progress.sweeps)
        return True

    def _turn(self, progress: Progress, step: Step, since: datetime) -> Progress:
        """The progress after the page that is next.

        Where Stripe refuses it, the events are begun anew the next time; a list of objects is left out, so that the
        other list and the next run's events have their turn.
        """
        try:
            report = self.reconciler.page(step, since, progress.after)
        except StripeRefused:
            if step is Step.EVENTS:
                self.store.save_progress(progress.step_begun_anew())
                raise
            logger().error("Stripe refuses a list, which is left out: see whether the key may read it", step=step)
            count("EventFailed")
            return progress.without_step(self.now())
        logger().info("Reconciled a page", extra={"step": report.step, **report.counts})
        return progress.turned(report.after, self.now())
