"""Whatever happens to deliveries, and to the functions that take them: Stripe's state in the end."""

import asyncio
import random

import pytest

from local.world import World
from tests.e2e.histories import run
from tests.sampling import examples

pytestmark = pytest.mark.stack

COUNT = examples(10)
PARALLEL = 8
ENOUGH_DELIVERIES = 12 * COUNT


def test_histories_in_bad_weather(world: World) -> None:
    """Under failing stores, failing fetches and killed functions no row differs from Stripe when deliveries end."""
    figures = asyncio.run(run(world, random.randrange(10**6), COUNT, PARALLEL))
    report = "\n".join(figures.lines())
    assert figures.differences == [], report
    assert figures.deliveries > ENOUGH_DELIVERIES, report
    assert figures.in_flight_max == figures.functions_max == PARALLEL, report
    assert figures.troubles.total() > 0, report
