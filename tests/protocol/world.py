"""Stripe, the table and the workers between them as one value, and every step by which it can become another.

The code under test is the real EventProcessor. It is a function of its event and of the answers it has heard, so a
worker is just these: to go on, it is run again from its beginning over the answers it heard before, up to the first
call that was not answered yet. So nothing has to be stopped in its midst, and any state can be gone back to.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, lru_cache, partial
from typing import cast

from billing.adapters.repository import Commit, EventContext, Repository
from billing.domain.accounts import Profile
from billing.domain.errors import BillingError, StoreUnavailable, StripeUnavailable
from billing.services.event_processor import EventProcessor
from billing.stripe_events.event_types import EventOutcome, FetchedObject, ObjectRef, Snapshot
from billing.stripe_events.ordering import StoredObject
from tests.protocol.model import CATALOG, moment
from tests.protocol.stripe_model import Event, FrozenDict, Stripe, describe, second
from tests.protocol.table_model import PARTS, Refusal, Table, Told

FUNCTION_SECONDS_MAX = 60
"""No function runs for so long (template.yaml), so no worker lives through a longer wait."""
RECONCILIATIONS_MAX = 2
"""How often open events are looked at once more: one may have to wait for another."""

# --- What a worker asks for -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """Some parts of an event's context."""

    parts: tuple[str, ...]
    about: tuple[str, str, str | None, Sequence[ObjectRef]]


@dataclass(frozen=True)
class ChooseOrder:
    """In which order the parts are read is DynamoDB's choice."""


@dataclass(frozen=True)
class ReadSubscriptions:
    """All subscriptions of the account."""


@dataclass(frozen=True)
class Write:
    """One transaction. `is_whole`: the worker's decision is all in it."""

    commit: Commit
    is_whole: bool = True


@dataclass(frozen=True)
class Retrieve:
    """A request to Stripe, at the moment when Stripe reads its own state."""

    object_id: str


@dataclass(frozen=True)
class HearStripe:
    """The answer to it, at the moment when Stripe dates it."""


type Call = Read | ChooseOrder | ReadSubscriptions | Write | Retrieve | HearStripe
type Answer = (
    EventContext | Mapping[str, StoredObject[Snapshot]] | Snapshot | datetime | tuple[str, ...] | Refusal | None
)
type Heard = tuple[tuple[float, Answer], ...]


class Asked(BaseException):
    """The worker has come to a call that nobody answered yet."""

    def __init__(self, call: Call) -> None:
        self.call = call


@dataclass
class Wire:
    """The store and Stripe as one worker has them: they answer what they answered before, and then no more."""

    heard: Heard
    is_torn: bool
    used: int = 1

    def ask[T](self, call: Call, _kind: type[T]) -> T:
        """The answer to the next call, or the end of what is known."""
        if self.used == len(self.heard):
            raise Asked(call)
        _, answer = self.heard[self.used]
        self.used += 1
        if isinstance(answer, Refusal):
            raise answer.error()
        return cast("T", answer)

    def now(self) -> datetime:
        """The time of the last answer."""
        return moment(self.heard[self.used - 1][0])

    def read_event_context(
        self, event_id: str, customer_id: str, account_id: str | None, targets: Sequence[ObjectRef]
    ) -> EventContext:
        """BatchGetItem: at one moment, or else part by part."""
        about = (event_id, customer_id, account_id, targets)
        if not self.is_torn:
            return self.ask(Read(PARTS, about), EventContext)
        order: tuple[str, ...] = self.ask(ChooseOrder(), tuple)
        parts = [self.ask(Read((part,), about), EventContext) for part in order]
        return EventContext(
            outcome=next((part.outcome for part in parts if part.outcome), None),
            account_of_customer=next((part.account_of_customer for part in parts if part.account_of_customer), None),
            profile=next((part.profile for part in parts if part.profile), None),
            rows={key: row for part in parts for key, row in part.rows.items()},
        )

    def load_subscription_rows(self, _account_id: str) -> Mapping[str, StoredObject[Snapshot]]:
        """Query."""
        return self.ask(ReadSubscriptions(), FrozenDict)

    def commit(self, commit: Commit) -> None:
        """TransactWriteItems."""
        self.ask(Write(commit), object)

    def fetch(self, target: ObjectRef) -> FetchedObject | None:
        """A request that takes its time: Stripe reads its state somewhere between its beginning and its answer."""
        begun = self.now()
        content = self.ask(Retrieve(target.id), object)
        dated = self.ask(HearStripe(), datetime)
        return FetchedObject(cast("Snapshot", content), dated - (self.now() - begun), dated) if content else None


@dataclass(frozen=True)
class Parts:
    """What a world is made of. Another part in the place of one, or a patch, takes a step out of the protocol."""

    processor: type[EventProcessor] = EventProcessor
    wire: type[Wire] = Wire
    table: type[Table] = Table
    patches: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Worker:
    """One delivery: an event, and what was answered since, each with its true time. First comes the delivery itself.

    Workers are equal that will do the same: `knows` is all that was heard, or the decision alone once there is one.
    """

    event: Event
    heard: Heard = field(compare=False)
    knows: object = ()

    @cached_property
    def _hash(self) -> int:
        return hash((self.event, self.knows))

    def __hash__(self) -> int:
        return self._hash


def _decision(commit: Commit) -> tuple[object, ...]:
    """All of a commit but the time at which it was decided."""
    outbound = tuple(map(Told.of, commit.outbound))
    return (commit.marker.outcome, tuple(commit.rows), outbound, commit.profile, commit.new_customer_id)


@lru_cache(maxsize=50_000)
def next_of(worker: Worker, parts: Parts, *, is_torn: bool) -> Call | EventOutcome | BillingError:
    """What a worker does next: the call it makes, the outcome it answers Stripe with, or the error."""
    wire = parts.wire(worker.heard, is_torn)
    processor = parts.processor(
        repository=cast("Repository", wire),
        catalog=CATALOG,
        fetch=wire.fetch,
        livemode=False,
        now=wire.now,
        pause=lambda _seconds: None,
    )
    try:
        return processor.process(worker.event.payload)
    except Asked as asked:
        return asked.call
    except (StripeUnavailable, StoreUnavailable) as error:
        return error


# --- The world --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Action:
    """Something that happens at Stripe or to an account, however fast the clock is of the server that stamps it."""

    label: str
    act: Callable[["World", float], "World"]
    stamps: bool = False
    seconds: float = 0


@dataclass(frozen=True)
class Scenario:
    """What happens, in this order, after what is `given`; and how often what may go wrong meanwhile."""

    name: str
    tells: str
    script: tuple[Action, ...]
    given: tuple[Action, ...] = ()
    profile: Profile | None = field(default_factory=lambda: Profile("acme", version=1, customer_id="cus_1"))
    workers: int = 2
    drifts: tuple[float, ...] = (0,)
    crashes: int = 0
    failures: int = 0
    repeats: int = 0
    is_torn: bool = False
    is_large: bool = False


type Step = Callable[[], "World"]


@dataclass(frozen=True)
class World:
    """One state of everything. `pending` are the numbers of the events that Stripe has to deliver, some twice.

    `told` says in words what the last step did.
    """

    scenario: Scenario = field(compare=False)
    parts: Parts = field(compare=False)
    table: Table
    stripe: Stripe = field(default_factory=Stripe)
    position: int = 0
    pending: tuple[int, ...] = ()
    workers: tuple[Worker, ...] = ()
    crashes: int = 0
    failures: int = 0
    repeats: int = 0
    reconciliations: int = 0
    told: str = field(default="", compare=False)

    @cached_property
    def _hash(self) -> int:
        budget = (self.crashes, self.failures, self.repeats, self.reconciliations)
        return hash((self.table, self.stripe, self.position, self.pending, self.workers, budget))

    def __hash__(self) -> int:
        return self._hash

    @property
    def is_over(self) -> bool:
        """Whether all that was to happen has, every event is answered, and those left open were looked at again."""
        return self._is_quiet and (self.reconciliations == RECONCILIATIONS_MAX or not self._open_events)

    @property
    def _is_quiet(self) -> bool:
        return not self.workers and not self.pending and self.position == len(self.scenario.script)

    @property
    def _open_events(self) -> tuple[int, ...]:
        """Those that a reconciliation looks at again; it hides no fault of ours, which has another outcome or none."""
        outcomes = self.table.markers
        return tuple(
            event.number for event in self.stripe.events if outcomes.get(event.id) is EventOutcome.UNKNOWN_CUSTOMER
        )

    def steps(self) -> Iterator[Step]:
        """All that can happen next."""
        yield from self._acts()
        yield from self._deliveries()
        for worker in dict.fromkeys(self.workers):
            yield from self._goes_on(worker)
            if self.crashes:
                yield partial(self._dies, worker)
        if self._is_quiet and not self.is_over:
            yield self._reconciles

    # --- Stripe and the account ---------------------------------------------------------------------------------------

    def _acts(self) -> Iterator[Step]:
        if self.position == len(self.scenario.script):
            return
        action = self.scenario.script[self.position]
        if action.seconds <= FUNCTION_SECONDS_MAX or not self.workers:
            for drift in self.scenario.drifts if action.stamps else (0,):
                yield partial(self.act, action, drift)

    def act(self, action: Action, drift: float) -> "World":
        """The world after an action of the script."""
        after = action.act(self, drift)
        events = after.stripe.events[len(self.stripe.events) :]
        return replace(
            after,
            position=self.position + 1,
            pending=_sorted((*self.pending, *(event.number for event in events))),
            told="".join([action.label, *(f"; makes {event}" for event in events)]),
        )

    # --- Deliveries ---------------------------------------------------------------------------------------------------

    def _deliveries(self) -> Iterator[Step]:
        if len(self.workers) == self.scenario.workers:
            return
        for event in self.stripe.events:
            if event.number in self.pending:
                rest = replace(self, pending=_without(self.pending, event.number))
                yield partial(rest._delivers, event, "is delivered")
            elif self.repeats:
                yield partial(replace(self, repeats=self.repeats - 1)._delivers, event, "is delivered once more")

    def _delivers(self, event: Event, told: str) -> "World":
        """A worker takes an event, and makes its first read: nothing that matters can come between."""
        worker = Worker(event, ((self.stripe.time, None),))
        taken = replace(self, workers=_sorted((*self.workers, worker)), told=f"{event.id} {told}")
        match taken._next_of(worker):
            case Read(parts, about):
                return taken._answers(worker, self.table.read(parts, *about), told)
            case _:
                return taken

    def _reconciles(self) -> "World":
        count = self.reconciliations + 1
        return replace(self, pending=self._open_events, reconciliations=count, told="open events are looked at again")

    # --- Workers ------------------------------------------------------------------------------------------------------

    def _next_of(self, worker: Worker) -> Call | EventOutcome | BillingError:
        return next_of(worker, self.parts, is_torn=self.scenario.is_torn)

    def _goes_on(self, worker: Worker) -> Iterator[Step]:
        """The worker's next call, in every way that it can go."""
        answers = partial(partial, self._answers, worker)
        match self._next_of(worker):
            case Read(parts, about):
                yield answers(self.table.read(parts, *about), f"reads the {' and the '.join(parts)}")
            case ChooseOrder():
                for order in (PARTS, PARTS[::-1]):
                    yield answers(order, f"begins to read, the {order[0]} first")
            case ReadSubscriptions():
                yield answers(self.table.subscription_rows(), "reads all subscriptions")
            case Write(commit):
                yield partial(self._commits, worker, commit)
            case Retrieve(object_id):
                content = self.stripe.now(object_id).content
                yield answers(content, f"asks Stripe, which reads: {describe(content)}")
                if self.failures:
                    failing = replace(self, failures=self.failures - 1)
                    yield partial(failing._answers, worker, Refusal.FAILED, "asks Stripe, which fails")
            case HearStripe():
                for drift in self.scenario.drifts:
                    dated = int(self.stripe.time + drift)
                    yield answers(moment(dated), f"hears Stripe's answer, dated {second(dated)}")
            case outcome:
                yield partial(self._leaves, worker, f"answers 200, {outcome}")

    def _answers(self, worker: Worker, answer: Answer, told: str) -> "World":
        """The world after a worker has got an answer, and did what it does before its next call."""
        heard = (*worker.heard, (self.stripe.time, answer))
        match self._next_of(Worker(worker.event, heard, heard[1:])):
            case BillingError():
                return self._fails(worker, f"{told}; answers 500")
            case EventOutcome() as outcome if not self.crashes:
                return self._leaves(worker, f"{told}; answers 200, {outcome}")
            case Write(commit, is_whole=True):
                wiser = Worker(worker.event, heard, _decision(commit))
            case _:
                wiser = Worker(worker.event, heard, heard[1:])
        workers = _sorted((*_without(self.workers, worker), wiser))
        return replace(self, workers=workers, told=f"{worker.event.id} {told}")

    def _commits(self, worker: Worker, commit: Commit) -> "World":
        after = self.table.commit(commit)
        if after is Refusal.CONFLICT:
            return self._begins_anew(worker)
        if isinstance(after, Refusal):
            return self._answers(worker, after, f"commits in vain: {after.value}")
        rows = "".join(f"; {describe(row)}" for row in commit.rows)
        return replace(self, table=after)._answers(worker, None, f"commits {commit.marker.outcome}{rows}")

    def _begins_anew(self, worker: Worker) -> "World":
        """Nothing of an attempt in vain is kept: the worker is as one to which the event was just delivered."""
        now = self.stripe.time
        refused = Worker(worker.event, (*worker.heard, (now, Refusal.CONFLICT)), object())
        fresh = Worker(worker.event, ((now, None),))
        assert self._next_of(refused) == self._next_of(fresh)
        workers = _sorted((*_without(self.workers, worker), fresh))
        return replace(self, workers=workers, told=f"{worker.event.id} commits in vain: {Refusal.CONFLICT.value}")

    def _dies(self, worker: Worker) -> "World":
        return replace(self, crashes=self.crashes - 1)._fails(worker, "dies")

    def _fails(self, worker: Worker, told: str) -> "World":
        """A delivery that got no 2xx: Stripe delivers again."""
        return replace(self, pending=_sorted((*self.pending, worker.event.number)))._leaves(worker, told)

    def _leaves(self, worker: Worker, told: str) -> "World":
        return replace(self, workers=_without(self.workers, worker), told=f"{worker.event.id} {told}")


def begin(scenario: Scenario, parts: Parts) -> World:
    """The world in which a scenario begins: what is given has happened, and was told of event by event."""
    profiles = {scenario.profile.account_id: scenario.profile} if scenario.profile else {}
    owners = {each.customer_id: key for key, each in profiles.items() if each.customer_id}
    world = World(scenario, parts, parts.table(profiles=FrozenDict(profiles), owners=FrozenDict(owners)))
    for action in scenario.given:
        world = replace(world.act(action, 0), position=len(scenario.script))
        while not world.is_over:
            world = next(world.steps())()
    return replace(
        world,
        position=0,
        crashes=scenario.crashes,
        failures=scenario.failures,
        repeats=scenario.repeats,
        reconciliations=0,
    )


def _sorted[T](values: tuple[T, ...]) -> tuple[T, ...]:
    """In one order of all: two states that differ in nothing else are one."""
    return tuple(sorted(values, key=hash))


def _without[T](values: tuple[T, ...], value: T) -> tuple[T, ...]:
    place = values.index(value)
    return values[:place] + values[place + 1 :]
