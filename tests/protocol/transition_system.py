"""Transition system of the protocol: Stripe, the table and the workers as one value, and every possible transition.

`workers.py` has the workers and their calls.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from billing.adapters.repository import Commit
from billing.domain.accounts import Profile
from billing.domain.errors import BillingError
from billing.stripe_events.event_types import EventOutcome
from tests.protocol.model import CLOCK_SKEW_SECONDS, moment
from tests.protocol.stripe_model import Event, FrozenDict, Stripe, describe, second
from tests.protocol.table_model import CONTEXT_PARTS, CallFailure, Table
from tests.protocol.workers import (
    Call,
    ChooseReadOrder,
    Components,
    ReadContext,
    ReadSubscriptions,
    ReceiveResponse,
    Response,
    Retrieve,
    Worker,
    Write,
    decision_of,
    next_call,
)

FUNCTION_SECONDS_MAX = 60
"""Greater than the timeout of every function in template.yaml. No worker continues after a longer wait."""
RECONCILIATIONS_MAX = 2
"""Number of times that events without a final outcome are replayed. One such event may depend on another."""


@dataclass(frozen=True)
class Action:
    """An action of Stripe or of the account.

    Attributes:
        label: Description.
        act: Returns the next state, for a clock offset in seconds.
        emits_event: True if the action emits an event, so that the clock offset matters.
        seconds: Time that passes.
    """

    label: str
    act: Callable[["SystemState", float], "SystemState"]
    emits_event: bool = False
    seconds: float = 0


@dataclass(frozen=True)
class Scenario:
    """A sequence of actions, and bounds of what may go wrong meanwhile.

    Attributes:
        name: Name on the command line.
        description: One sentence.
        script: Actions in their order.
        given: Actions that are complete, with all their events processed, before the script starts.
        profile: Profile of the account; None if it does not exist at first.
        other_profiles: Profiles of other accounts.
        workers: Greatest number of workers at the same time.
        clock_offsets: Offsets in seconds of the clocks that stamp events.
        date_offsets: Offsets in seconds of the clocks that stamp responses; None for `clock_offsets`.
        worker_offsets: Offsets in seconds of the workers' clocks.
        crashes: Greatest number of workers that stop.
        fetch_failures: Greatest number of requests to Stripe that fail.
        redeliveries: Greatest number of deliveries of events that were processed already.
        has_torn_reads: True if the parts of a context are read at different moments.
        is_large: True if the scenario is too large for `make test`.
    """

    name: str
    description: str
    script: tuple[Action, ...]
    given: tuple[Action, ...] = ()
    profile: Profile | None = field(default_factory=lambda: Profile("acme", version=1, customer_id="cus_1"))
    other_profiles: tuple[Profile, ...] = ()
    workers: int = 2
    clock_offsets: tuple[float, ...] = (0,)
    date_offsets: tuple[float, ...] | None = None
    worker_offsets: tuple[float, ...] = (0,)
    crashes: int = 0
    fetch_failures: int = 0
    redeliveries: int = 0
    has_torn_reads: bool = False
    is_large: bool = False

    @property
    def clock_error(self) -> float:
        """Greatest error of a clock, in seconds."""
        offsets = (*self.clock_offsets, *(self.date_offsets or ()), *self.worker_offsets)
        return max(CLOCK_SKEW_SECONDS, *map(abs, offsets))


type Transition = Callable[[], "SystemState"]


@dataclass(frozen=True)
class SystemState:
    """State of the whole system.

    Attributes:
        scenario: Scenario that is executed.
        components: Components of the system.
        table: DynamoDB.
        stripe: Stripe.
        position: Number of actions of the script that are done.
        pending: Numbers of the events that Stripe has to deliver; a number may occur twice.
        workers: Deliveries in progress.
        crashes: Workers that may still stop.
        fetch_failures: Requests to Stripe that may still fail.
        redeliveries: Processed events that may still be delivered again.
        reconciliations: Replays of events without a final outcome so far.
        transition: Description of the transition that led to this state.
    """

    scenario: Scenario = field(compare=False)
    components: Components = field(compare=False)
    table: Table
    stripe: Stripe = field(default_factory=Stripe)
    position: int = 0
    pending: tuple[int, ...] = ()
    workers: tuple[Worker, ...] = ()
    crashes: int = 0
    fetch_failures: int = 0
    redeliveries: int = 0
    reconciliations: int = 0
    transition: str = field(default="", compare=False)

    @cached_property
    def _hash(self) -> int:
        bounds = (self.crashes, self.fetch_failures, self.redeliveries, self.reconciliations)
        return hash((self.table, self.stripe, self.position, self.pending, self.workers, bounds))

    def __hash__(self) -> int:
        return self._hash

    @property
    def is_final(self) -> bool:
        """True if the script is done, every event got a 2xx, and events without a final outcome were replayed."""
        return self._is_idle and (self.reconciliations == RECONCILIATIONS_MAX or not self._open_events)

    @property
    def _is_idle(self) -> bool:
        return not self.workers and not self.pending and self.position == len(self.scenario.script)

    @property
    def _open_events(self) -> tuple[int, ...]:
        """Events that reconciliation replays. Outcomes other than `unknown_customer` are not, and stay visible."""
        outcomes = self.table.markers
        return tuple(
            event.number for event in self.stripe.events if outcomes.get(event.id) is EventOutcome.UNKNOWN_CUSTOMER
        )

    def transitions(self) -> Iterator[Transition]:
        """Yield every possible transition."""
        yield from self._actions()
        yield from self._deliveries()
        for worker in dict.fromkeys(self.workers):
            yield from self._calls(worker)
            if self.crashes:
                yield partial(self._stop, worker)
        if self._is_idle and not self.is_final:
            yield self._reconcile

    # --- Stripe and the account ---------------------------------------------------------------------------------------

    def _actions(self) -> Iterator[Transition]:
        if self.position == len(self.scenario.script):
            return
        action = self.scenario.script[self.position]
        if action.seconds <= FUNCTION_SECONDS_MAX or not self.workers:
            for clock_offset in self.scenario.clock_offsets if action.emits_event else (0,):
                yield partial(self.act, action, clock_offset)

    def act(self, action: Action, clock_offset: float) -> "SystemState":
        """Return the state after an action of the script."""
        after = action.act(self, clock_offset)
        events = after.stripe.events[len(self.stripe.events) :]
        return replace(
            after,
            position=self.position + 1,
            pending=_sorted((*self.pending, *(event.number for event in events))),
            transition="".join([action.label, *(f"; emits {event}" for event in events)]),
        )

    # --- Deliveries ---------------------------------------------------------------------------------------------------

    def _deliveries(self) -> Iterator[Transition]:
        if len(self.workers) == self.scenario.workers:
            return
        for event in self.stripe.events:
            if event.number in self.pending:
                rest, description = replace(self, pending=_without(self.pending, event.number)), "is delivered"
            elif self.redeliveries:
                rest, description = replace(self, redeliveries=self.redeliveries - 1), "is delivered again"
            else:
                continue
            for clock_offset in self.scenario.worker_offsets:
                yield partial(rest._deliver, event, description, clock_offset)

    def _deliver(self, event: Event, description: str, clock_offset: float) -> "SystemState":
        """Start a worker, and let it make its first read. No relevant transition is possible in between."""
        worker = Worker(event, ((self.stripe.time, None),), clock_offset=clock_offset)
        if clock_offset:
            description += f" to a worker whose clock is {clock_offset:+g} s off"
        started = replace(self, workers=_sorted((*self.workers, worker)), transition=f"{event.id} {description}")
        match started._next_call(worker):
            case ReadContext(parts, arguments):
                return started._respond(worker, self.table.read(parts, *arguments), description)
            case _:
                return started

    def _reconcile(self) -> "SystemState":
        count = self.reconciliations + 1
        return replace(self, pending=self._open_events, reconciliations=count, transition="open events are replayed")

    # --- Workers ------------------------------------------------------------------------------------------------------

    def _next_call(self, worker: Worker) -> Call | EventOutcome | BillingError:
        return next_call(worker, self.components, has_torn_reads=self.scenario.has_torn_reads)

    def _calls(self, worker: Worker) -> Iterator[Transition]:
        """Yield the worker's next call with every possible response."""
        respond = partial(partial, self._respond, worker)
        match self._next_call(worker):
            case ReadContext(parts, arguments):
                yield respond(self.table.read(parts, *arguments), f"reads the {' and the '.join(parts)}")
            case ChooseReadOrder():
                for order in (CONTEXT_PARTS, CONTEXT_PARTS[::-1]):
                    yield respond(order, f"starts to read, the {order[0]} first")
            case ReadSubscriptions():
                yield respond(self.table.subscription_rows(), "reads all subscriptions")
            case Write(commit):
                yield partial(self._commit, worker, commit)
            case Retrieve(object_id):
                content = self.stripe.current(object_id).content
                response = (content, self.stripe.account_id(object_id))
                yield respond(response, f"requests the object, Stripe reads: {describe(content)}")
                if self.fetch_failures:
                    failing = replace(self, fetch_failures=self.fetch_failures - 1)
                    failure = CallFailure.STRIPE_UNAVAILABLE
                    yield partial(failing._respond, worker, failure, "requests the object, Stripe fails")
            case ReceiveResponse():
                for clock_offset in self.scenario.date_offsets or self.scenario.clock_offsets:
                    date = int(self.stripe.time + clock_offset)
                    yield respond(moment(date), f"receives the response of Stripe, dated {second(date)}")
            case outcome:
                yield partial(self._remove, worker, f"responds 200, {outcome}")

    def _respond(self, worker: Worker, response: Response, description: str) -> "SystemState":
        """Return the state after a worker received a response and ran up to its next call."""
        responses = (*worker.responses, (self.stripe.time, response))
        continued = replace(worker, responses=responses, memory=responses[1:])
        match self._next_call(continued):
            case BillingError():
                return self._fail(worker, f"{description}; responds 500")
            case EventOutcome() as outcome if not self.crashes:
                return self._remove(worker, f"{description}; responds 200, {outcome}")
            case Write(commit, is_complete=True):
                advanced = replace(continued, memory=decision_of(commit))
            case _:
                advanced = continued
        workers = _sorted((*_without(self.workers, worker), advanced))
        return replace(self, workers=workers, transition=f"{worker.event.id} {description}")

    def _commit(self, worker: Worker, commit: Commit) -> "SystemState":
        after = self.table.commit(commit)
        if after is CallFailure.CONFLICT:
            return self._restart(worker)
        if isinstance(after, CallFailure):
            return self._respond(worker, after, f"fails to commit: {after.value}")
        rows = "".join(f"; {describe(row)}" for row in commit.rows)
        return replace(self, table=after)._respond(worker, None, f"commits {commit.marker.outcome}{rows}")

    def _restart(self, worker: Worker) -> "SystemState":
        """Reset a worker after a conflict. It keeps nothing, as if its event had just been delivered."""
        now = self.stripe.time
        conflict = (now, CallFailure.CONFLICT)
        rejected = replace(worker, responses=(*worker.responses, conflict), memory=object())
        fresh = replace(worker, responses=((now, None),), memory=())
        assert self._next_call(rejected) == self._next_call(fresh)
        workers = _sorted((*_without(self.workers, worker), fresh))
        description = f"{worker.event.id} fails to commit: {CallFailure.CONFLICT.value}"
        return replace(self, workers=workers, transition=description)

    def _stop(self, worker: Worker) -> "SystemState":
        return replace(self, crashes=self.crashes - 1)._fail(worker, "stops")

    def _fail(self, worker: Worker, description: str) -> "SystemState":
        """End a delivery without a 2xx, so that Stripe delivers the event again."""
        pending = _sorted((*self.pending, worker.event.number))
        return replace(self, pending=pending)._remove(worker, description)

    def _remove(self, worker: Worker, description: str) -> "SystemState":
        return replace(self, workers=_without(self.workers, worker), transition=f"{worker.event.id} {description}")


def initial_state(scenario: Scenario, components: Components) -> SystemState:
    """Return the first state of a scenario, after its given actions and the processing of their events."""
    given = (*((scenario.profile,) if scenario.profile else ()), *scenario.other_profiles)
    profiles = {each.account_id: each for each in given}
    owners = {each.customer_id: key for key, each in profiles.items() if each.customer_id}
    table = components.table(profiles=FrozenDict(profiles), owners=FrozenDict(owners))
    state = SystemState(scenario, components, table)
    for action in scenario.given:
        state = replace(state.act(action, 0), position=len(scenario.script))
        while not state.is_final:
            state = next(state.transitions())()
    return replace(
        state,
        position=0,
        crashes=scenario.crashes,
        fetch_failures=scenario.fetch_failures,
        redeliveries=scenario.redeliveries,
        reconciliations=0,
    )


def _sorted[T](values: tuple[T, ...]) -> tuple[T, ...]:
    """Sort in a canonical order, so that states that differ only in order are equal."""
    return tuple(sorted(values, key=hash))


def _without[T](values: tuple[T, ...], value: T) -> tuple[T, ...]:
    index = values.index(value)
    return values[:index] + values[index + 1 :]
