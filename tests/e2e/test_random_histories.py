"""Random histories under faults on the deployed stack."""

import asyncio
import random

import pytest

from local.environment import LocalEnvironment
from tests.e2e.random_histories import run_histories
from tests.sampling import examples

pytestmark = pytest.mark.stack

COUNT = examples(10)
PARALLEL = 8
DELIVERIES_MIN = 12 * COUNT


def test_random_histories_under_faults_equal_stripe_state(environment: LocalEnvironment) -> None:
    statistics = asyncio.run(run_histories(environment, random.randrange(10**6), COUNT, PARALLEL))
    report = "\n".join(statistics.lines())
    assert statistics.differences == [], report
    assert statistics.deliveries > DELIVERIES_MIN, report
    assert statistics.in_flight_max == statistics.functions_max == PARALLEL, report
    assert statistics.dynamodb_faults.total() > 0, report
