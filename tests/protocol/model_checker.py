"""Model checker: visits every state of a scenario, and reports violated invariants.

    python -m tests.protocol.model_checker                      every scenario
    python -m tests.protocol.model_checker crashes --more 1     one scenario, with every bound raised by one
    python -m tests.protocol.model_checker --without skew       the protocol without one step
    python -m tests.protocol.model_checker --histories 30000    random histories, which are too long to check completely

States are visited breadth first, each once. The reported schedule of a violation is therefore a shortest one. The
number of interleavings is the number of paths from the initial state to a final state.
"""

import argparse
import random
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from unittest import mock

from billing.telemetry import logger
from tests.protocol.ablations import ABLATIONS, Ablation
from tests.protocol.invariants import violations
from tests.protocol.random_histories import random_history
from tests.protocol.scenarios import SCENARIOS
from tests.protocol.transition_system import Scenario, SystemState, initial_state
from tests.protocol.workers import Components, next_call


@dataclass(frozen=True)
class CounterExample:
    """A schedule that violates an invariant.

    Attributes:
        invariant: Name of the invariant.
        violation: Description of the violation.
        schedule: Descriptions of the transitions, of which the last one violates the invariant.
    """

    invariant: str
    violation: str
    schedule: tuple[str, ...]

    def __str__(self) -> str:
        steps = [f"  {number:2}. {transition}" for number, transition in enumerate(self.schedule, 1)]
        return "\n".join([f"{self.invariant}: {self.violation}", *steps])


@dataclass
class CheckResult:
    """Result of a check.

    Attributes:
        successors: For each state, by number, the states that follow it.
        violations: For each violated invariant the first schedule that was found.
    """

    successors: dict[int, list[int]] = field(default_factory=dict)
    violations: dict[str, CounterExample] = field(default_factory=dict)

    @property
    def states(self) -> int:
        """Number of different states."""
        return len(self.successors)

    @property
    def interleavings(self) -> int:
        """Number of paths from the initial state to a final state."""
        paths: dict[int, int] = {}
        for number in TopologicalSorter(self.successors).static_order():
            paths[number] = sum(paths[after] for after in self.successors[number]) or 1
        return paths[0]


def check(scenario: Scenario, components: Components | None = None, *, until: str | None = None) -> CheckResult:
    """Visit every state of a scenario.

    Args:
        scenario: Scenario to check.
        components: Components of the system, for an ablation.
        until: Name of an invariant whose first violation ends the check.
    """
    components = components or Components()
    result = CheckResult()
    with patched(components):
        first = initial_state(scenario, components)
        numbers = {first: 0}
        predecessors: dict[SystemState, SystemState] = {}
        queue = deque([first])
        while queue and until not in result.violations:
            state = queue.popleft()
            successors = result.successors[numbers[state]] = []
            for transition in state.transitions():
                after = transition()
                for invariant, violation in violations(state, after):
                    schedule = _schedule(predecessors, state, after)
                    result.violations.setdefault(invariant, CounterExample(invariant, violation, schedule))
                if after not in numbers:
                    numbers[after] = len(numbers)
                    predecessors[after] = state
                    queue.append(after)
                successors.append(numbers[after])
    return result


@contextmanager
def patched(components: Components) -> Iterator[None]:
    """Apply the patches of an ablation, and suppress metrics."""
    next_call.cache_clear()
    with ExitStack() as stack, mock.patch("billing.services.event_processor.count"):
        for target, patch in components.patches:
            stack.enter_context(mock.patch(target, patch))
        yield
    next_call.cache_clear()


def _schedule(
    predecessors: Mapping[SystemState, SystemState], state: SystemState, after: SystemState
) -> tuple[str, ...]:
    transitions = [after.transition]
    while state in predecessors:
        transitions.append(state.transition)
        state = predecessors[state]
    return tuple(reversed(transitions))


def random_walk(scenario: Scenario, choice: random.Random) -> CheckResult:
    """Visit the states of one random path through a scenario."""
    result = CheckResult()
    with patched(Components()):
        state = initial_state(scenario, Components())
        schedule: list[str] = []
        while transitions := list(state.transitions()):
            after = choice.choice(transitions)()
            schedule.append(after.transition)
            for invariant, violation in violations(state, after):
                result.violations.setdefault(invariant, CounterExample(invariant, violation, tuple(schedule)))
            result.successors[len(schedule) - 1] = [len(schedule)]
            state = after
    result.successors[len(schedule)] = []
    return result


# --- Command line -----------------------------------------------------------------------------------------------------

ROW = "{:34}{:>12}{:>24}{:>12}{:>10}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 1 if an invariant is violated, or if an ablation violates none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help=f"one of: {', '.join(SCENARIOS)}")
    parser.add_argument("--more", type=int, default=0, metavar="N", help="raise every bound of a scenario by N")
    parser.add_argument("--without", choices=ABLATIONS, metavar="STEP", help=f"one of: {', '.join(ABLATIONS)}")
    parser.add_argument("--histories", type=int, default=0, metavar="N", help="number of random histories")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first random history")
    arguments = parser.parse_args(argv)
    logger().setLevel("CRITICAL")
    if arguments.without:
        return print_ablation(ABLATIONS[arguments.without])
    print(ROW.format("scenario", "states", "interleavings", "violations", "seconds"))
    if arguments.histories:
        return print_histories(range(arguments.seed, arguments.seed + arguments.histories))
    names = arguments.scenario or SCENARIOS
    return sum(print_check(raise_bounds(SCENARIOS[name], arguments.more)) for name in names) > 0


def print_check(scenario: Scenario) -> int:
    """Check a scenario and print the result. Returns the number of violated invariants."""
    started = time.perf_counter()
    result = check(scenario)
    seconds = f"{time.perf_counter() - started:.1f}"
    numbers = (f"{result.states:,}", f"{result.interleavings:,}", len(result.violations), seconds)
    print(ROW.format(scenario.name, *numbers), *result.violations.values(), sep="\n", flush=True)
    return len(result.violations)


def print_ablation(ablation: Ablation) -> int:
    """Check an ablation and print a shortest schedule. Returns 1 if the expected violation does not occur."""
    result = check(SCENARIOS[ablation.scenario], ablation.components, until=ablation.violates)
    examples = [example for name, example in result.violations.items() if name == ablation.violates]
    print(ablation.description, *examples, sep="\n")
    return (ablation.violates in result.violations) is (ablation.violates is None)


def print_histories(seeds: range) -> int:
    """Walk through random histories and print the result. Returns 1 if an invariant is violated."""
    started = time.perf_counter()
    states = violated = 0
    for seed in seeds:
        choice = random.Random(seed)
        result = random_walk(random_history(choice), choice)
        states += result.states
        violated += bool(result.violations)
        for example in result.violations.values():
            print(f"seed {seed}: {example}", flush=True)
    seconds = f"{time.perf_counter() - started:.1f}"
    print(ROW.format("random histories", f"{states:,}", f"{len(seeds):,}", violated, seconds))
    return violated > 0


def raise_bounds(scenario: Scenario, increase: int) -> Scenario:
    """Return the scenario with higher bounds."""
    return replace(
        scenario,
        workers=scenario.workers + increase,
        crashes=scenario.crashes + increase,
        fetch_failures=scenario.fetch_failures + increase,
        redeliveries=scenario.redeliveries + increase,
    )


if __name__ == "__main__":
    sys.exit(main())
