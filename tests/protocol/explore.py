"""Every interleaving of a scenario, and whether one of them breaks a promise.

    python -m tests.protocol.explore                          every scenario
    python -m tests.protocol.explore crashes --more 1         one, with every bound raised by one
    python -m tests.protocol.explore --without skew           what happens with a step of the protocol taken out
    python -m tests.protocol.explore --lives 30000            as many random lives, longer than what can be explored

States are visited breadth first, each once, so what breaks a promise is told by a shortest schedule. The number of
interleavings is that of all ways from the beginning to an end.
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
from tests.protocol.lives import random_life
from tests.protocol.promises import broken
from tests.protocol.removals import REMOVALS, Removal
from tests.protocol.scenarios import SCENARIOS
from tests.protocol.world import Parts, Scenario, World, begin, next_of


@dataclass(frozen=True)
class CounterExample:
    """A schedule that breaks a promise: what was done, step by step, and how the last one broke it."""

    promise: str
    how: str
    schedule: tuple[str, ...]

    def __str__(self) -> str:
        steps = [f"  {number:2}. {told}" for number, told in enumerate(self.schedule, 1)]
        return "\n".join([f"{self.promise}: {self.how}", *steps])


@dataclass
class Exploration:
    """What was seen of a scenario: which worlds follow each, by number, and how promises are broken, by their names."""

    next_of: dict[int, list[int]] = field(default_factory=dict)
    broken: dict[str, CounterExample] = field(default_factory=dict)
    fetches: int = 0

    @property
    def states(self) -> int:
        """How many different states of the world there are."""
        return len(self.next_of)

    @property
    def interleavings(self) -> int:
        """How many ways lead through them."""
        ways: dict[int, int] = {}
        for number in TopologicalSorter(self.next_of).static_order():
            ways[number] = sum(ways[after] for after in self.next_of[number]) or 1
        return ways[0]


def explore(scenario: Scenario, parts: Parts | None = None, *, until: str | None = None) -> Exploration:
    """Visit every state, or those that are nearer than the first in which the promise `until` is broken."""
    parts = parts or Parts()
    found = Exploration()
    with patched(parts):
        first = begin(scenario, parts)
        numbers = {first: 0}
        came: dict[World, World] = {}
        waiting = deque([first])
        while waiting and until not in found.broken:
            world = waiting.popleft()
            follow = found.next_of[numbers[world]] = []
            for step in world.steps():
                after = step()
                for promise, how in broken(world, after):
                    found.broken.setdefault(promise, CounterExample(promise, how, _schedule(came, world, after)))
                if after not in numbers:
                    numbers[after] = len(numbers)
                    came[after] = world
                    waiting.append(after)
                follow.append(numbers[after])
    return found


@contextmanager
def patched(parts: Parts) -> Iterator[None]:
    """Put patches in their places for as long as something is explored, in which nobody counts what it meets."""
    next_of.cache_clear()
    with ExitStack() as stack, mock.patch("billing.services.event_processor.count"):
        for target, patch in parts.patches:
            stack.enter_context(mock.patch(target, patch))
        yield
    next_of.cache_clear()


def _schedule(came: Mapping[World, World], world: World, after: World) -> tuple[str, ...]:
    told = [after.told]
    while world in came:
        told.append(world.told)
        world = came[world]
    return tuple(reversed(told))


def walk(scenario: Scenario, choice: random.Random) -> Exploration:
    """One way through a scenario, taken at random."""
    found = Exploration()
    with patched(Parts()):
        world = begin(scenario, Parts())
        schedule: list[str] = []
        while steps := list(world.steps()):
            after = choice.choice(steps)()
            schedule.append(after.told)
            for promise, how in broken(world, after):
                found.broken.setdefault(promise, CounterExample(promise, how, tuple(schedule)))
            found.next_of[len(schedule) - 1] = [len(schedule)]
            world = after
    found.next_of[len(schedule)] = []
    return found


# --- By hand ----------------------------------------------------------------------------------------------------------

ROW = "{:32}{:>12}{:>24}{:>9}{:>10}"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; 1 if a promise is broken that should hold, or holds that should be broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help=f"one of: {', '.join(SCENARIOS)}")
    parser.add_argument("--more", type=int, default=0, metavar="N", help="raise every bound of a scenario by N")
    parser.add_argument("--without", choices=REMOVALS, metavar="STEP", help=f"one of: {', '.join(REMOVALS)}")
    parser.add_argument("--lives", type=int, default=0, metavar="N", help="random lives, from --seed on")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    logger().setLevel("CRITICAL")
    if arguments.without:
        return show_removal(REMOVALS[arguments.without])
    print(ROW.format("scenario", "states", "interleavings", "broken", "seconds"))
    if arguments.lives:
        return show_lives(range(arguments.seed, arguments.seed + arguments.lives))
    return sum(show(more(SCENARIOS[name], arguments.more)) for name in arguments.scenario or SCENARIOS) > 0


def show(scenario: Scenario) -> int:
    """Explore a scenario and print what was found; how many promises are broken."""
    started = time.perf_counter()
    found = explore(scenario)
    seconds = f"{time.perf_counter() - started:.1f}"
    numbers = (f"{found.states:,}", f"{found.interleavings:,}", len(found.broken), seconds)
    print(ROW.format(scenario.name, *numbers), *found.broken.values(), sep="\n", flush=True)
    return len(found.broken)


def show_removal(removal: Removal) -> int:
    """Print the shortest schedule by which the protocol without a step breaks its promise."""
    found = explore(SCENARIOS[removal.scenario], removal.parts, until=removal.breaks)
    print(removal.tells, *(example for name, example in found.broken.items() if name == removal.breaks), sep="\n")
    return (removal.breaks in found.broken) is (removal.breaks is None)


def show_lives(seeds: range) -> int:
    """Live random lives and print what was found; how many ended wrong."""
    started = time.perf_counter()
    states = wrong = 0
    for seed in seeds:
        choice = random.Random(seed)
        found = walk(random_life(choice), choice)
        states += found.states
        wrong += bool(found.broken)
        for example in found.broken.values():
            print(f"seed {seed}: {example}", flush=True)
    seconds = f"{time.perf_counter() - started:.1f}"
    print(ROW.format("random lives", f"{states:,}", f"{len(seeds):,}", wrong, seconds))
    return wrong > 0


def more(scenario: Scenario, extra: int) -> Scenario:
    """The scenario with higher bounds."""
    return replace(
        scenario,
        workers=scenario.workers + extra,
        crashes=scenario.crashes + extra,
        failures=scenario.failures + extra,
        repeats=scenario.repeats + extra,
    )


if __name__ == "__main__":
    sys.exit(main())
