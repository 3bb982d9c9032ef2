"""Random histories of customers, delivered to the deployed stack under faults, and compared with Stripe.

`python -m tests.e2e.random_histories --count 500` starts a local environment and prints the statistics. A history is
the random life cycle of one customer of one account, generated from a seed:

1. Some of its events are delivered while it continues.
2. At its end all events are delivered, shuffled and duplicated, in batches of 8 to 32, under faults
   (`fault_injection.py`).
3. The faults stop. All events without a 2xx are delivered again, as Stripe does, and so are some of the others.
4. Every row is compared with Stripe's objects (`state_comparison.py`).

The seed determines the life cycle and the order of its deliveries. The machine determines how deliveries interleave.
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
from cli.commands.keys import create_key
from local import stack
from local.environment import EnvironmentConfig, LocalEnvironment, running_environment
from local.ports import free_port, is_listening
from local.processes import Child, start, stop, wait_until
from tests.e2e.fault_injection import DynamoDBProxy, FaultSchedule, kill_connection_owner
from tests.e2e.life_cycle import AsyncStripeClient, Json, LifeCycle
from tests.e2e.state_comparison import differences
from tests.e2e.support import children

PARALLEL_DELIVERIES = 32
"""Concurrent deliveries. Each has its own process of the function."""
HISTORIES_AT_ONCE = 32
READS_AT_ONCE = 4
DELIVERY_TIMEOUT_SECONDS = 22.0
KEEPALIVE_SECONDS = 2.0
"""Shorter than uvicorn's 5 s, so that no request uses a connection that the server is about to close."""
BATCH_SIZE = (8, 32)
"""Minimum and maximum number of deliveries that one history starts at once."""
PAUSES_SECONDS = (0.0, 0.0, 0.0, 0.0, 0.3, 1.2, 6.5)
"""Pauses between two steps of a life cycle: usually within the same second, sometimes longer than `CLOCK_SKEW`."""
REDELIVERIES_MAX = 20
MONITOR_SECONDS = 0.25


@dataclass
class RunStatistics:
    """Statistics and differences of a run."""

    histories: int = 0
    events: int = 0
    deliveries: int = 0
    responses: Counter[str] = field(default_factory=Counter)
    dynamodb_faults: Counter[str] = field(default_factory=Counter)
    stripe_faults: Counter[str] = field(default_factory=Counter)
    fetches: int = 0
    in_flight_max: int = 0
    functions_max: int = 0
    requests_at_once_max: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Format the statistics."""
        yield f"{self.histories} histories, {self.events} events, {self.deliveries} deliveries in {self.seconds:.0f} s"
        yield f"  concurrent deliveries (maximum)         {self.in_flight_max}"
        yield f"  function processes (maximum)            {self.functions_max}"
        yield f"  concurrent DynamoDB requests (maximum)  {self.requests_at_once_max}"
        yield f"  responses to deliveries                 {_format_counts(self.responses)}"
        yield f"  DynamoDB faults                         {_format_counts(self.dynamodb_faults)}"
        yield f"  Stripe faults                           {_format_counts(self.stripe_faults)}"
        yield f"  fetches from Stripe                     {self.fetches}"
        yield f"  differences                             {len(self.differences)}"
        yield from self.differences


def _format_counts(counts: Counter[str]) -> str:
    return f"{counts.total()}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common())


@dataclass
class History:
    """A life cycle, its events and their deliveries. `last_responses` has the last response to each event."""

    seed: int
    rng: random.Random
    life_cycle: LifeCycle
    secret_key: str
    events: dict[str, Json] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    last_responses: dict[str, str] = field(default_factory=dict)

    def unacknowledged(self) -> list[Json]:
        """Return the events without a 2xx response, which Stripe delivers again."""
        return [event for event_id, event in self.events.items() if event_id not in self.acknowledged]


@dataclass
class HistoryRun:
    """Clients and shared state of a run of histories."""

    environment: LocalEnvironment
    stripe: AsyncStripeClient
    api: httpx.AsyncClient
    table: Table
    prices: dict[str, str]
    event_types: frozenset[str]
    last_event: str
    statistics: RunStatistics
    slots: asyncio.Semaphore
    readers: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, READS_AT_ONCE))
    in_flight: int = 0
    histories: dict[str, History] = field(default_factory=dict)
    collecting: asyncio.Lock = field(default_factory=asyncio.Lock)

    # --- Stripe's events ----------------------------------------------------------------------------------------------

    async def collect(self) -> None:
        """Assign all new events of Stripe to their histories."""
        async with self.collecting:
            has_more = True
            while has_more:
                page = await self.stripe.get("/v1/events", limit="100", ending_before=self.last_event)
                has_more = page["has_more"]
                for event in reversed(page["data"]):
                    self._assign(event)

    def _assign(self, event: Json) -> None:
        self.last_event = event["id"]
        source = event["data"]["object"]
        history = self.histories.get(str(source.get("customer") or source.get("id")))
        if history and event["type"] in self.event_types:
            history.events[event["id"]] = event

    async def monitor(self) -> None:
        """Collect events until cancelled, so that lists stay short, and count the functions' processes."""
        while True:
            await self.collect()
            self.statistics.functions_max = max(
                self.statistics.functions_max, len(_function_processes(self.environment))
            )
            await asyncio.sleep(MONITOR_SECONDS)

    # --- Deliveries ---------------------------------------------------------------------------------------------------

    async def deliver(self, history: History, event: Json) -> None:
        """Deliver one event as Stripe does."""
        body = json.dumps(event).encode()
        async with self.slots:
            signature = sign(body, self.environment.webhook_secret, datetime.now(UTC))
            headers = {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature}
            self.in_flight += 1
            self.statistics.in_flight_max = max(self.statistics.in_flight_max, self.in_flight)
            try:
                response = await self.api.post("/v1/billing/webhooks", content=body, headers=headers)
                result = response.json()["outcome"] if response.is_success else str(response.status_code)
            except httpx.TransportError as error:
                result = type(error).__name__
            finally:
                self.in_flight -= 1
        self.statistics.deliveries += 1
        self.statistics.responses[result] += 1
        history.last_responses[event["id"]] = result
        if not result[0].isupper() and not result.isdigit():
            history.acknowledged.add(event["id"])

    async def deliver_all(self, history: History, events: Iterable[Json]) -> None:
        """Deliver events concurrently."""
        await gather_all(self.deliver(history, event) for event in events)


async def gather_all[T](work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently. Returns their results; if one fails, the others are cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
    return [task.result() for task in tasks]


# --- A history --------------------------------------------------------------------------------------------------------
async def create_history(run: HistoryRun, seed: int) -> History:
    """Create an account with a key, and a Stripe customer. Half of the accounts are linked to it from the start."""
    rng = random.Random(seed)
    account_id = f"history-{seed}-{secrets.token_hex(3)}"
    customer = await run.stripe.post("/v1/customers", **{"metadata[account_id]": account_id})
    assert customer is not None
    is_known = rng.random() < 0.5
    secret_key = await asyncio.to_thread(_create_account, run.table, account_id, customer["id"] if is_known else None)
    life_cycle = LifeCycle(run.stripe, rng, account_id, customer["id"], run.prices, may_be_deleted=is_known)
    history = run.histories[customer["id"]] = History(seed, rng, life_cycle, secret_key)
    return history


def _create_account(table: Table, account_id: str, customer_id: str | None) -> str:
    repository = Repository(table)
    repository.create_account(Profile(account_id, customer_id=customer_id, created=datetime.now(UTC)))
    return create_key(repository, account_id, KeyKind.SECRET, livemode=False)[1]


async def deliver_life_cycle(run: HistoryRun, history: History) -> None:
    """Run the life cycle and deliver some events meanwhile; then deliver all events at least once, shuffled."""
    async with asyncio.TaskGroup() as deliveries:
        await history.life_cycle.start()
        for _ in range(history.rng.randint(2, 6)):
            await asyncio.sleep(history.rng.choice(PAUSES_SECONDS))
            if history.rng.random() < 0.6:
                sample = _sample_with_repeats(history.rng, list(history.events.values()))
                deliveries.create_task(run.deliver_all(history, sample))
            await history.life_cycle.next_step()
        await run.collect()
        for batch in _shuffled_batches(history.rng, list(history.events.values())):
            deliveries.create_task(run.deliver_all(history, batch))
    await run.deliver_all(history, history.unacknowledged())


def _sample_with_repeats(rng: random.Random, events: Sequence[Json]) -> list[Json]:
    """Return a random sample of the events, possibly with duplicates."""
    return rng.choices(events, k=rng.randint(1, BATCH_SIZE[0])) if events else []


def _shuffled_batches(rng: random.Random, events: list[Json]) -> Iterator[Sequence[Json]]:
    """Yield every event at least once and some repeatedly, shuffled, in batches of 8 to 32."""
    copies = rng.choices(events, k=max(BATCH_SIZE[0], len(events) // 2))
    deliveries = rng.sample([*events, *copies], len(events) + len(copies))
    yield from batched(deliveries, rng.randint(*BATCH_SIZE), strict=False)


async def redeliver(run: HistoryRun, history: History) -> None:
    """Deliver events again until all are acknowledged, then some of the acknowledged events."""
    for _ in range(REDELIVERIES_MAX):
        remaining = history.unacknowledged()
        if not remaining:
            break
        await run.deliver_all(history, remaining)
    await run.deliver_all(history, _sample_with_repeats(history.rng, list(history.events.values())))


async def compare(run: HistoryRun, history: History) -> list[str]:
    """Return the differences from Stripe, each with the seed of the history."""
    found = [
        f"{event['id']} was never acknowledged: {history.last_responses.get(event['id'])}"
        for event in history.unacknowledged()
    ]
    async with run.readers:
        found += await differences(
            run.stripe, run.api, run.table, history.life_cycle, history.events, history.secret_key
        )
    return [f"seed {history.seed}, {history.life_cycle.account_id}: {difference}" for difference in found]


# --- Run --------------------------------------------------------------------------------------------------------------
async def run_histories(environment: LocalEnvironment, seed: int, count: int, parallel: int) -> RunStatistics:
    """Run and compare histories with consecutive seeds. Restores the environment afterwards.

    Args:
        environment: Running environment; its HTTP server is replaced during the run.
        seed: Seed of the first history.
        count: Number of histories.
        parallel: Maximum of concurrent deliveries.
    """
    statistics = RunStatistics(histories=count)
    engine_port = int(environment.env["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    proxy = DynamoDBProxy(engine_port, lambda port: _kill_function(environment, port), random.Random(seed))
    async with AsyncExitStack() as opened:
        url = await opened.enter_async_context(proxy.listening())
        opened.enter_context(_http_server_with_proxy(environment, url, parallel))
        run = await opened.enter_async_context(_history_run(environment, statistics, parallel))
        faults = FaultSchedule(proxy, run.stripe.http, random.Random(seed))
        fetched_before = await _fetches(run.stripe)
        started = time.monotonic()
        for seeds in batched(range(seed, seed + count), HISTORIES_AT_ONCE, strict=False):
            await _run_at_once(run, faults, seeds)
        statistics.seconds = time.monotonic() - started
        statistics.fetches = await _fetches(run.stripe) - fetched_before
    statistics.requests_at_once_max = proxy.concurrent_max
    statistics.dynamodb_faults = +Counter({kind: number for kind, number in proxy.counts.items() if kind != "requests"})
    statistics.stripe_faults = +faults.stripe_counts
    return statistics


async def _run_at_once(run: HistoryRun, faults: FaultSchedule, seeds: Iterable[int]) -> None:
    """Run histories concurrently under the same faults."""
    histories = await gather_all(create_history(run, seed) for seed in seeds)
    async with _in_background(run.monitor()), faults.active():
        await gather_all(deliver_life_cycle(run, history) for history in histories)
    await gather_all(redeliver(run, history) for history in histories)
    found = await gather_all(compare(run, history) for history in histories)
    run.statistics.differences += [difference for per_history in found for difference in per_history]
    run.statistics.events += sum(len(history.events) for history in histories)
    run.histories.clear()
    logging.getLogger(__name__).info(
        "%d deliveries, %d differences", run.statistics.deliveries, len(run.statistics.differences)
    )


@asynccontextmanager
async def _history_run(
    environment: LocalEnvironment, statistics: RunStatistics, parallel: int
) -> AsyncIterator[HistoryRun]:
    """Connect to Stripe, API and table. Stripe's own deliveries are disabled meanwhile."""
    authorization = {"Authorization": f"Bearer {environment.env['STRIPE_API_KEY']}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=parallel, keepalive_expiry=KEEPALIVE_SECONDS)
    async with (
        httpx.AsyncClient(
            base_url=environment.stripe_url,
            headers=authorization,
            timeout=60,
            limits=limits,
            trust_env=False,
        ) as to_stripe,
        httpx.AsyncClient(
            base_url=environment.api_url, timeout=DELIVERY_TIMEOUT_SECONDS, limits=limits, trust_env=False
        ) as to_api,
    ):
        stripe = AsyncStripeClient(to_stripe)
        prices = {price["lookup_key"]: price["id"] for price in await stripe.all("/v1/prices")}
        [endpoint] = await stripe.all("/v1/webhook_endpoints")
        await stripe.post(f"/v1/webhook_endpoints/{endpoint['id']}", disabled="true")
        dynamodb = boto3.client("dynamodb", **stack.client_options(environment.env))
        table = Table(dynamodb, stack.outputs(environment.env, stack.STACK)["TableName"])
        try:
            event_types = frozenset(endpoint["enabled_events"])
            [event] = (await stripe.get("/v1/events", limit="1"))["data"]
            yield HistoryRun(
                environment,
                stripe,
                to_api,
                table,
                prices,
                event_types,
                event["id"],
                statistics,
                asyncio.Semaphore(parallel),
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
def _http_server_with_proxy(environment: LocalEnvironment, dynamodb_url: str, parallel: int) -> Iterator[None]:
    """Restart the HTTP server with the DynamoDB proxy and `parallel` execution environments per function."""
    original = environment.services["http_server"]
    replaced = replace(
        original,
        command=(*original.command, "--environments", str(parallel)),
        env={**original.env, "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url},
    )
    _restart_http_server(environment, replaced)
    try:
        yield
    finally:
        _restart_http_server(environment, original)


def _restart_http_server(environment: LocalEnvironment, service: Child) -> None:
    stop([environment.services["http_server"]])
    environment.services["http_server"] = http_server = start(service.name, service.command, service.env, service.log)
    wait_until(lambda: is_listening(int(environment.api_url.rsplit(":", 1)[1])), http_server)


def _function_processes(environment: LocalEnvironment) -> set[int]:
    return children(environment.services["http_server"].process.pid)


def _kill_function(environment: LocalEnvironment, port: int) -> bool:
    return kill_connection_owner(port, environment.services["http_server"].process.pid)


async def _fetches(stripe: AsyncStripeClient) -> int:
    """Return the number of requests for single subscriptions and invoices, which only functions send."""
    calls = (await stripe.get("/_simulator/calls"))["data"]
    return sum(calls.get(f"GET /v1/{kind}/{{}}", 0) for kind in ("subscriptions", "invoices"))


def main() -> int:
    """Print the statistics. Returns 1 if there are differences."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e.random_histories", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--count", type=int, default=500, help="number of histories")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="seed of the first history")
    parser.add_argument("--parallel", type=int, default=PARALLEL_DELIVERIES, help="concurrent deliveries")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    print(f"First seed: {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        config = EnvironmentConfig(Path(folder), free_port(), free_port(), rate_limit_per_minute=100_000)
        with running_environment(config) as environment:
            statistics = asyncio.run(run_histories(environment, arguments.seed, arguments.count, arguments.parallel))
    print("\n".join(statistics.lines()))
    return 1 if statistics.differences else 0


if __name__ == "__main__":
    sys.exit(main())
