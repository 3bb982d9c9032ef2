"""Many customers' lives, delivered to the deployed stack as badly as can be, and what is left compared with Stripe.

`python -m tests.e2e.histories --count 500` brings the local world up and prints the figures. A history is the life of
one customer of one account, from its seed: some of its events are delivered while it goes on, all of them, shuffled
and doubled, 8 to 32 at a time, when it has ended, in bad weather (`troubles.py`). Then the sky clears, what was not
acknowledged is delivered again, as Stripe does, some of the rest too, and every row is compared with Stripe's objects.

The seed repeats the life and the order of its deliveries; how they meet in the stack is the machine's own choice.
"""

import argparse
import asyncio
import json
import logging
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any

import boto3
import httpx

from billing.adapters.dynamodb import Table
from billing.adapters.repository import Repository
from billing.api.authentication import KeyKind
from billing.domain.accounts import Profile
from billing.stripe_events.webhook_signature import sign
from cli.keys import create_key
from local import stack
from local.environment import EnvironmentConfig, LocalEnvironment, running_environment
from local.ports import free_port, is_listening
from local.processes import Child, start, stop, wait_until
from tests.e2e.comparison import differences
from tests.e2e.lives import Json, Life, StripeApi
from tests.e2e.support import children
from tests.e2e.troubles import DynamoDBProxy, Weather, kill_owner_of

PARALLEL = 32
"""How many deliveries are under way at once, each in a function's process of its own."""
HISTORIES_AT_ONCE = 32
READS_AT_ONCE = 4
STRIPE_GIVES_UP_SECONDS = 22.0
WAVE = (8, 32)
"""How many deliveries of one history set out together."""
PAUSES_SECONDS = (0.0, 0.0, 0.0, 0.0, 0.3, 1.2, 6.5)
"""Between two steps of a life: most often within the second, sometimes beyond what clocks may differ by."""
ROUNDS_MAX = 20
WATCH_SECONDS = 0.25


@dataclass
class Figures:
    """What was done, and what came of it."""

    histories: int = 0
    events: int = 0
    deliveries: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    stripe_troubles: Counter[str] = field(default_factory=Counter)
    fetches: int = 0
    in_flight_max: int = 0
    functions_max: int = 0
    requests_at_once_max: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The figures for people."""
        yield f"{self.histories} histories, {self.events} events, {self.deliveries} deliveries in {self.seconds:.0f} s"
        yield f"  deliveries in flight, at most    {self.in_flight_max}"
        yield f"  function processes, at most      {self.functions_max}"
        yield f"  DynamoDB requests at once        {self.requests_at_once_max}"
        yield f"  answers to deliveries            {_report_discrepancy(self.answers)}"
        yield f"  troubles with DynamoDB           {_report_discrepancy(self.troubles)}"
        yield f"  troubles with Stripe             {_report_discrepancy(self.stripe_troubles)}"
        yield f"  fetches from Stripe              {self.fetches}"
        yield f"  differences                      {len(self.differences)}"
        yield from self.differences


def _report_discrepancy(counts: Counter[str]) -> str:
    return f"{counts.total()}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common())


@dataclass
class History:
    """One life and how its events were delivered. `last_answers` has what an event was answered last."""

    seed: int
    choice: random.Random
    life: Life
    secret_key: str
    events: dict[str, Json] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    last_answers: dict[str, str] = field(default_factory=dict)

    def unacknowledged(self) -> list[Json]:
        """What Stripe will deliver again."""
        return [event for event_id, event in self.events.items() if event_id not in self.acknowledged]


@dataclass
class Stage:
    """The world with everything that histories need of it."""

    world: LocalEnvironment
    stripe: StripeApi
    api: httpx.AsyncClient
    table: Table
    prices: dict[str, str]
    event_types: frozenset[str]
    last_event: str
    figures: Figures
    slots: asyncio.Semaphore
    readers: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, READS_AT_ONCE))
    in_flight: int = 0
    histories: dict[str, History] = field(default_factory=dict)
    collecting: asyncio.Lock = field(default_factory=asyncio.Lock)

    # --- Stripe's events, each to its history -------------------------------------------------------------------------

    async def collect(self) -> None:
        """Hand out every event that there is by now."""
        async with self.collecting:
            has_more = True
            while has_more:
                page = await self.stripe.get("/v1/events", limit="100", ending_before=self.last_event)
                has_more = page["has_more"]
                for event in reversed(page["data"]):
                    self._hand_out(event)

    def _hand_out(self, event: Json) -> None:
        self.last_event = event["id"]
        about = event["data"]["object"]
        history = self.histories.get(str(about.get("customer") or about.get("id")))
        if history and event["type"] in self.event_types:
            history.events[event["id"]] = event

    async def keep_watching(self) -> None:
        """Collect for ever, so that no list gets long, and see how many functions' processes there are."""
        while True:
            await self.collect()
            self.figures.functions_max = max(self.figures.functions_max, len(_functions(self.world)))
            await asyncio.sleep(WATCH_SECONDS)

    # --- Deliveries ---------------------------------------------------------------------------------------------------

    async def deliver(self, history: History, event: Json) -> None:
        """One delivery, as Stripe makes it."""
        body = json.dumps(event).encode()
        async with self.slots:
            signature = sign(body, self.world.webhook_secret, datetime.now(UTC))
            headers = {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature}
            self.in_flight += 1
            self.figures.in_flight_max = max(self.figures.in_flight_max, self.in_flight)
            try:
                response = await self.api.post("/v1/billing/webhooks", content=body, headers=headers)
                answer = response.json()["outcome"] if response.is_success else str(response.status_code)
            except httpx.TransportError as error:
                answer = type(error).__name__
            finally:
                self.in_flight -= 1
        self.figures.deliveries += 1
        self.figures.answers[answer] += 1
        history.last_answers[event["id"]] = answer
        if not answer[0].isupper() and not answer.isdigit():
            history.acknowledged.add(event["id"])

    async def deliver_all(self, history: History, events: Iterable[Json]) -> None:
        """Deliveries that set out together."""
        await together(self.deliver(history, event) for event in events)


async def together[T](work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each answers; where one fails, all end."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
    return [task.result() for task in tasks]


# --- A history --------------------------------------------------------------------------------------------------------
async def begin(stage: Stage, seed: int) -> History:
    """A new account with a key, and a customer in Stripe, which the account knows or is to learn from events."""
    choice = random.Random(seed)
    account_id = f"history-{seed}-{secrets.token_hex(3)}"
    customer = await stage.stripe.post("/v1/customers", **{"metadata[account_id]": account_id})
    assert customer is not None
    is_known = choice.random() < 0.5
    secret_key = await asyncio.to_thread(_create_account, stage.table, account_id, customer["id"] if is_known else None)
    life = Life(stage.stripe, choice, account_id, customer["id"], stage.prices, may_be_deleted=is_known)
    history = stage.histories[customer["id"]] = History(seed, choice, life, secret_key)
    return history


def _create_account(table: Table, account_id: str, customer_id: str | None) -> str:
    repository = Repository(table)
    repository.create_account(Profile(account_id, customer_id=customer_id, created=datetime.now(UTC)))
    return create_key(repository, account_id, KeyKind.SECRET, livemode=False)[1]


async def live(stage: Stage, history: History) -> None:
    """The life, some of it delivered meanwhile; then all of it, at least once, in bad order."""
    async with asyncio.TaskGroup() as deliveries:
        await history.life.begin()
        for _ in range(history.choice.randint(2, 6)):
            await asyncio.sleep(history.choice.choice(PAUSES_SECONDS))
            if history.choice.random() < 0.6:
                some = _some_of(history.choice, list(history.events.values()))
                deliveries.create_task(stage.deliver_all(history, some))
            await history.life.go_on()
        await stage.collect()
        for wave in _waves(history.choice, list(history.events.values())):
            deliveries.create_task(stage.deliver_all(history, wave))
    await stage.deliver_all(history, history.unacknowledged())


def _some_of(choice: random.Random, events: Sequence[Json]) -> list[Json]:
    """Some deliveries of what there is so far, some of them twice."""
    return choice.choices(events, k=choice.randint(1, WAVE[0])) if events else []


def _waves(choice: random.Random, events: list[Json]) -> Iterator[Sequence[Json]]:
    """Every event once and some more often, in any order, 8 to 32 deliveries at a time."""
    copies = choice.choices(events, k=max(WAVE[0], len(events) // 2))
    deliveries = choice.sample([*events, *copies], len(events) + len(copies))
    yield from batched(deliveries, choice.randint(*WAVE), strict=False)


async def settle(stage: Stage, history: History) -> None:
    """Deliver again what was not acknowledged, until it is, and some of what was."""
    for _ in range(ROUNDS_MAX):
        again = history.unacknowledged()
        if not again:
            break
        await stage.deliver_all(history, again)
    await stage.deliver_all(history, _some_of(history.choice, list(history.events.values())))


async def compare(stage: Stage, history: History) -> list[str]:
    """What differs from Stripe, each with the seed of the history."""
    found = [
        f"{event['id']} was never acknowledged: {history.last_answers.get(event['id'])}"
        for event in history.unacknowledged()
    ]
    async with stage.readers:
        found += await differences(
            stage.stripe, stage.api, stage.table, history.life, history.events, history.secret_key
        )
    return [f"seed {history.seed}, {history.life.account_id}: {difference}" for difference in found]


# --- All of them ------------------------------------------------------------------------------------------------------
async def run(world: LocalEnvironment, seed: int, count: int, parallel: int) -> Figures:
    """Live as many histories, with seeds from `seed` on, and compare each. The world is as before afterwards."""
    figures = Figures(histories=count)
    engine_port = int(world.env["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    proxy = DynamoDBProxy(engine_port, lambda port: _kill_function(world, port), random.Random(seed))
    async with AsyncExitStack() as opened:
        url = await opened.enter_async_context(proxy.listening())
        opened.enter_context(_front_behind(world, url, parallel))
        stage = await opened.enter_async_context(_stage(world, figures, parallel))
        weather = Weather(proxy, stage.stripe.http, random.Random(seed))
        fetched_before = await _fetches(stage.stripe)
        began = time.monotonic()
        for seeds in batched(range(seed, seed + count), HISTORIES_AT_ONCE, strict=False):
            await _run_at_once(stage, weather, seeds)
        figures.seconds = time.monotonic() - began
        figures.fetches = await _fetches(stage.stripe) - fetched_before
    figures.requests_at_once_max = proxy.busiest
    figures.troubles = +Counter({kind: number for kind, number in proxy.counts.items() if kind != "requests"})
    figures.stripe_troubles = +weather.stripe_counts
    return figures


async def _run_at_once(stage: Stage, weather: Weather, seeds: Iterable[int]) -> None:
    """Histories that share the weather."""
    histories = await together(begin(stage, seed) for seed in seeds)
    async with _in_background(stage.keep_watching()), weather.bad():
        await together(live(stage, history) for history in histories)
    await together(settle(stage, history) for history in histories)
    found = await together(compare(stage, history) for history in histories)
    stage.figures.differences += [difference for of_one in found for difference in of_one]
    stage.figures.events += sum(len(history.events) for history in histories)
    stage.histories.clear()
    logging.getLogger(__name__).info(
        "%d deliveries, %d differences", stage.figures.deliveries, len(stage.figures.differences)
    )


@asynccontextmanager
async def _stage(world: LocalEnvironment, figures: Figures, parallel: int) -> AsyncIterator[Stage]:
    """Connections, and Stripe silent: what happens there is delivered by us alone."""
    authorization = {"Authorization": f"Bearer {world.env['STRIPE_API_KEY']}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=parallel)
    async with (
        httpx.AsyncClient(base_url=world.stripe_url, headers=authorization, timeout=60, trust_env=False) as to_stripe,
        httpx.AsyncClient(
            base_url=world.api_url, timeout=STRIPE_GIVES_UP_SECONDS, limits=limits, trust_env=False
        ) as to_api,
    ):
        stripe = StripeApi(to_stripe)
        prices = {price["lookup_key"]: price["id"] for price in await stripe.all("/v1/prices")}
        [endpoint] = await stripe.all("/v1/webhook_endpoints")
        await stripe.post(f"/v1/webhook_endpoints/{endpoint['id']}", disabled="true")
        dynamodb = boto3.client("dynamodb", **stack.client_options(world.env))
        table = Table(dynamodb, stack.outputs(world.env, stack.STACK)["TableName"])
        try:
            event_types = frozenset(endpoint["enabled_events"])
            [event] = (await stripe.get("/v1/events", limit="1"))["data"]
            yield Stage(
                world, stripe, to_api, table, prices, event_types, event["id"], figures, asyncio.Semaphore(parallel)
            )
        finally:
            await stripe.post(f"/v1/webhook_endpoints/{endpoint['id']}", disabled="false")


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def _front_behind(world: LocalEnvironment, dynamodb_url: str, parallel: int) -> Iterator[None]:
    """Functions that reach DynamoDB by another way, and as many of each as are needed at once."""
    usual = world.services["http_server"]
    replaced = replace(
        usual,
        command=(*usual.command, "--environments", str(parallel)),
        env={**usual.env, "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url},
    )
    _restart_front(world, replaced)
    try:
        yield
    finally:
        _restart_front(world, usual)


def _restart_front(world: LocalEnvironment, wanted: Child) -> None:
    stop([world.services["http_server"]])
    world.services["http_server"] = front = start(wanted.name, wanted.command, wanted.env, wanted.log)
    wait_until(lambda: is_listening(int(world.api_url.rsplit(":", 1)[1])), front)


def _functions(world: LocalEnvironment) -> set[int]:
    return children(world.services["http_server"].process.pid)


def _kill_function(world: LocalEnvironment, port: int) -> bool:
    return kill_owner_of(port, world.services["http_server"].process.pid)


async def _fetches(stripe: StripeApi) -> int:
    """How often a single subscription or invoice was asked for, which only the functions do."""
    calls = (await stripe.get("/_simulator/calls"))["data"]
    return sum(calls.get(f"GET /v1/{kind}/{{}}", 0) for kind in ("subscriptions", "invoices"))


def main() -> int:
    """Print the figures. Returns 1 if there are differences."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.histories", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the first history")
    parser.add_argument("--parallel", type=int, default=PARALLEL, help="deliveries under way at once")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    print(f"Seeds from {arguments.seed} on", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        config = EnvironmentConfig(Path(folder), free_port(), free_port(), rate_limit_per_minute=100_000)
        with running_environment(config) as world:
            figures = asyncio.run(run(world, arguments.seed, arguments.count, arguments.parallel))
    print("\n".join(figures.lines()))
    return 1 if figures.differences else 0


if __name__ == "__main__":
    sys.exit(main())
