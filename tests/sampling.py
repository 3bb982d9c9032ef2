"""Number of random examples in a test run.

`TEST_PROFILE=thorough` runs every example, as `.ci/run` does. Any other run takes a quarter of them.
"""

import os
from math import ceil

from hypothesis import HealthCheck, settings

THOROUGH = "thorough"
QUICK = "quick"
HYPOTHESIS_EXAMPLES = 100
"""Hypothesis's own default."""
_QUICK_SHARE = 0.25


def profile() -> str:
    """Return the profile named by TEST_PROFILE. Raises ValueError for any other name."""
    name = os.environ.get("TEST_PROFILE", QUICK)
    if name not in {QUICK, THOROUGH}:
        raise ValueError(f"TEST_PROFILE={name}: use {QUICK} or {THOROUGH}.")
    return name


def examples(count: int) -> int:
    """Return the number of examples to run of the `count` in a thorough run."""
    return count if profile() == THOROUGH else ceil(count * _QUICK_SHARE)


def configure_hypothesis() -> None:
    """Set Hypothesis's default number of examples.

    Hypothesis's own check of the time that inputs take fails on a busy machine, whatever the code under test does.
    """
    settings.register_profile(
        profile(), max_examples=examples(HYPOTHESIS_EXAMPLES), suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile(profile())
