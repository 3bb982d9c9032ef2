"""Workers of the transition system: deliveries in progress, and the calls that they make.

The code under test is the real EventProcessor. It is a function of its event and of the responses that it receives. A
worker is therefore an event and a list of responses. To continue a worker, the processor runs again from its beginning
over the recorded responses, up to its first call without a response. Nothing has to be interrupted, and every state can
be restored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import cast

from billing.adapters.repository import Commit, EventContext, Repository
from billing.domain.errors import BillingError, StoreUnavailable, StripeUnavailable
from billing.services.event_processor import EventProcessor
from billing.stripe_events.event_types import EventOutcome, FetchedObject, ObjectRef, Snapshot
from billing.stripe_events.ordering import StoredObject
from tests.protocol.model import CATALOG, moment
from tests.protocol.stripe_model import Event, FrozenDict
from tests.protocol.table_model import CONTEXT_PARTS, CallFailure, OutboxItem, Table
from tests.samples import DEPLOYMENT


@dataclass(frozen=True)
class ReadContext:
    """Read of some parts of an event's context. `arguments` are those of `Table.read` after the parts."""

    parts: tuple[str, ...]
    arguments: tuple[str, str, str | None, Sequence[ObjectRef]]


@dataclass(frozen=True)
class ChooseReadOrder:
    """DynamoDB's choice of the order in which it reads the parts."""


@dataclass(frozen=True)
class ReadSubscriptions:
    """Read of all subscription rows of the account."""


@dataclass(frozen=True)
class Write:
    """One transaction. `is_complete` is True if it contains the whole decision of the worker."""

    commit: Commit
    is_complete: bool = True


@dataclass(frozen=True)
class Retrieve:
    """Request to Stripe, at the moment at which Stripe reads the object."""

    object_id: str


@dataclass(frozen=True)
class ReceiveResponse:
    """Response to the request, at the moment of its `Date` header."""


type Call = ReadContext | ChooseReadOrder | ReadSubscriptions | Write | Retrieve | ReceiveResponse
type Response = (
    EventContext
    | Mapping[str, StoredObject[Snapshot]]
    | datetime
    | tuple[Snapshot | None, str | None]
    | tuple[str, ...]
    | CallFailure
    | None
)
type Responses = tuple[tuple[float, Response], ...]


class PendingCall(BaseException):
    """The worker makes a call that has no response yet."""

    def __init__(self, call: Call) -> None:
        self.call = call


@dataclass
class ReplayedCalls:
    """Repository and Stripe of one worker, which return the recorded responses in their order.

    Attributes:
        responses: Recorded responses, each with its true time. The first one is the delivery itself.
        has_torn_reads: True if the parts of a context are read at different moments.
        clock_offset: Seconds by which the worker's clock is fast.
        position: Number of responses that were returned.
    """

    responses: Responses
    has_torn_reads: bool
    clock_offset: float = 0
    position: int = 1

    def call[T](self, call: Call, _kind: type[T]) -> T:
        """Return the next recorded response.

        Raises:
            PendingCall: There is no further response.
        """
        if self.position == len(self.responses):
            raise PendingCall(call)
        _, response = self.responses[self.position]
        self.position += 1
        if isinstance(response, CallFailure):
            raise response.error()
        return cast("T", response)

    def now(self) -> datetime:
        """Return the time of the last response, by the worker's clock."""
        return moment(self.responses[self.position - 1][0] + self.clock_offset)

    def read_event_context(
        self, event_id: str, customer_id: str, account_id: str | None, targets: Sequence[ObjectRef]
    ) -> EventContext:
        """BatchGetItem, at one moment or part by part."""
        arguments = (event_id, customer_id, account_id, targets)
        if not self.has_torn_reads:
            return self.call(ReadContext(CONTEXT_PARTS, arguments), EventContext)
        order: tuple[str, ...] = self.call(ChooseReadOrder(), tuple)
        parts = [self.call(ReadContext((part,), arguments), EventContext) for part in order]
        return EventContext(
            outcome=next((part.outcome for part in parts if part.outcome), None),
            account_of_customer=next((part.account_of_customer for part in parts if part.account_of_customer), None),
            profile=next((part.profile for part in parts if part.profile), None),
            rows={key: row for part in parts for key, row in part.rows.items()},
        )

    def load_subscription_rows(self, _account_id: str) -> Mapping[str, StoredObject[Snapshot]]:
        """Query."""
        return self.call(ReadSubscriptions(), FrozenDict)

    def commit(self, commit: Commit) -> None:
        """TransactWriteItems."""
        self.call(Write(commit), object)

    def fetch(self, target: ObjectRef) -> FetchedObject | None:
        """Request to Stripe. Stripe reads the object at some moment between request and response."""
        requested = self.now()
        content, account_id = self.call(Retrieve(target.id), tuple)
        date = self.call(ReceiveResponse(), datetime)
        return FetchedObject(content, date - (self.now() - requested), date, account_id) if content else None


@dataclass(frozen=True)
class Components:
    """Components of the system. An ablation replaces one of them, or patches the code under test."""

    processor: type[EventProcessor] = EventProcessor
    calls: type[ReplayedCalls] = ReplayedCalls
    table: type[Table] = Table
    patches: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Worker:
    """One delivery of an event that is in progress.

    Attributes:
        event: The event.
        responses: All responses so far, each with its true time. The first one is the delivery itself.
        memory: What determines the further calls: the responses, or once there is one, the decision alone. Workers with
            equal memory behave equally and compare equal.
        clock_offset: Seconds by which the clock of the worker is fast.
    """

    event: Event
    responses: Responses = field(compare=False)
    memory: object = ()
    clock_offset: float = 0

    @cached_property
    def _hash(self) -> int:
        return hash((self.event, self.memory, self.clock_offset))

    def __hash__(self) -> int:
        return self._hash


def decision_of(commit: Commit) -> tuple[object, ...]:
    """Return everything in a commit except the time of the decision."""
    outbound = tuple(map(OutboxItem.of, commit.outbound))
    return (commit.marker.outcome, tuple(commit.rows), outbound, commit.profile, commit.new_customer_id)


@lru_cache(maxsize=50_000)
def next_call(worker: Worker, components: Components, *, has_torn_reads: bool) -> Call | EventOutcome | BillingError:
    """Run a worker up to its next call. Returns the call, the outcome if the worker is done, or the error."""
    calls = components.calls(worker.responses, has_torn_reads, worker.clock_offset)
    processor = components.processor(
        repository=cast("Repository", calls),
        catalog=CATALOG,
        fetch=calls.fetch,
        deployment=DEPLOYMENT,
        now=calls.now,
        pause=lambda _seconds: None,
    )
    try:
        return processor.process(worker.event.payload)
    except PendingCall as pending:
        return pending.call
    except (StripeUnavailable, StoreUnavailable) as error:
        return error
