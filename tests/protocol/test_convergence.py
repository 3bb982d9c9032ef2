"""The table converges on Stripe's state under any order, duplication, concurrency, crash or failing fetch."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.stripe_events.event_types import EventOutcome
from billing.telemetry import logger
from tests.protocol.ablations import ABLATIONS
from tests.protocol.actions import changes, subscribes
from tests.protocol.model_checker import check, main, random_walk
from tests.protocol.random_histories import random_history
from tests.protocol.scenarios import SCENARIOS
from tests.protocol.transition_system import Scenario, initial_state
from tests.protocol.workers import Components
from tests.sampling import examples


@pytest.fixture(autouse=True, scope="module")
def _suppress_logs() -> Iterator[None]:
    level = logger().log_level
    logger().setLevel("CRITICAL")
    yield
    logger().setLevel(level)


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if not scenario.is_large])
def test_scenario_under_every_interleaving_violates_no_invariant(name: str) -> None:
    result = check(SCENARIOS[name])
    assert result.violations == {}
    assert result.interleavings > 1


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(min_value=0, max_value=2**64))
def test_random_history_under_random_interleaving_violates_no_invariant(seed: int) -> None:
    choice = random.Random(seed)
    assert not random_walk(random_history(choice), choice).violations


@pytest.mark.parametrize("name", [name for name, ablation in ABLATIONS.items() if ablation.violates])
def test_ablation_of_necessary_step_violates_its_invariant(name: str) -> None:
    """The model checker would detect that the step is missing."""
    ablation = ABLATIONS[name]
    result = check(SCENARIOS[ablation.scenario], ablation.components, until=ablation.violates)
    assert ablation.violates in result.violations


def test_ablation_of_lifecycle_rank_violates_no_invariant_and_adds_fetches() -> None:
    ablation = ABLATIONS["lifecycle-rank"]
    result = check(SCENARIOS[ablation.scenario], ablation.components)
    assert result.violations == {}
    assert result.states > check(SCENARIOS[ablation.scenario]).states


def test_event_with_snapshot_equal_to_row_has_no_change_and_increments_version() -> None:
    """Such an event is neither drift nor late. A worker that fetched before it cannot commit after it."""
    table = initial_state(Scenario("", "", script=(), given=(subscribes(), changes("pro"))), Components()).table
    assert table.markers == {"evt_0": EventOutcome.APPLIED, "evt_1": EventOutcome.NO_CHANGE}
    assert table.rows["sub_1"].version == 2


def test_model_checker_command_prints_states_and_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["two-profile-changes"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:-1] == ["two-profile-changes", "17", "10", "0"]
    assert main(["--without", "profile-versions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ABLATIONS["profile-versions"].description
    assert lines[1].startswith("final_profile_equals_stripe: the ")
    assert lines[2].startswith(
        "   1. sub_1 is created as active; emits evt_0, customer.subscription.created, stamped 0s: "
    )
    assert main(["--histories", "3", "--seed", "7"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["random", "histories"]
