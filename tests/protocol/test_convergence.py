"""Whatever order, duplication, concurrency, crashes and failing fetches: the rows end as Stripe's objects are."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.stripe_events.event_types import EventOutcome
from billing.telemetry import logger
from tests.protocol.explore import explore, main, walk
from tests.protocol.lives import random_life
from tests.protocol.removals import REMOVALS
from tests.protocol.scenarios import SCENARIOS, changes, subscribes
from tests.protocol.world import Parts, Scenario, begin
from tests.sampling import examples


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    """Thousands of deliveries are told in no log."""
    logger().setLevel("CRITICAL")


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if not scenario.is_large])
def test_no_interleaving_breaks_a_promise(name: str) -> None:
    """Every schedule of a small story keeps every promise."""
    found = explore(SCENARIOS[name])
    assert found.broken == {}
    assert found.interleavings > 1


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(min_value=0, max_value=2**64))
def test_no_random_life_breaks_a_promise(seed: int) -> None:
    """Nor does a schedule, taken at random, of a story that is too long to see all of."""
    choice = random.Random(seed)
    assert not walk(random_life(choice), choice).broken


@pytest.mark.parametrize("name", [name for name, removal in REMOVALS.items() if removal.breaks])
def test_each_step_of_the_protocol_is_needed(name: str) -> None:
    """With a step taken out there is a schedule that breaks a promise: the explorer can see what the step is for."""
    removal = REMOVALS[name]
    assert removal.breaks in explore(SCENARIOS[removal.scenario], removal.parts, until=removal.breaks).broken


def test_the_stage_of_an_object_only_saves_fetches() -> None:
    """Without it nothing ends wrong, and there is more that can happen."""
    removal = REMOVALS["stage"]
    without = explore(SCENARIOS[removal.scenario], removal.parts)
    assert without.broken == {}
    assert without.states > explore(SCENARIOS[removal.scenario]).states


def test_an_event_that_equals_its_row_is_included_and_moves_the_version() -> None:
    """It told nothing new, so nobody counts it as drift or as late; and a fetch from before is refused after it."""
    table = begin(Scenario("", "", script=(), given=(subscribes(), changes("pro"))), Parts()).table
    assert table.markers == {"evt_0": EventOutcome.APPLIED, "evt_1": EventOutcome.NO_CHANGE}
    assert table.rows["sub_1"].version == 2


def test_what_is_found_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """By hand, a line tells how much was seen, and a schedule in words what goes wrong without a step."""
    assert main(["two-facts"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:-1] == ["two-facts", "17", "10", "0"]
    assert main(["--without", "profile-versions"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == REMOVALS["profile-versions"].tells
    assert told[1].startswith("account_ends_right: its ")
    assert told[2].startswith("   1. sub_1 begins as active; makes evt_0, customer.subscription.created, stamped 0s: ")
    assert main(["--lives", "3", "--seed", "7"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["random", "lives"]
