"""Billing periods. A month ends on the anchor's day or, if the month is shorter, on its last day."""

import calendar
from datetime import UTC, datetime

from stripe_simulator.state import DAY, Object

FIXED_LENGTHS = {"day": DAY, "week": 7 * DAY}
MONTHS = {"month": 1, "year": 12}


def period_end(anchor: int, recurring: Object, after: int) -> int:
    """Return the first end of a billing period after a time.

    Args:
        anchor: The subscription's billing cycle anchor, in epoch seconds.
        recurring: The price's ``interval`` and ``interval_count``.
        after: The time in epoch seconds.
    """
    step = 0
    while (end := add_interval(anchor, recurring, step)) <= after:
        step += 1
    return end


def add_interval(anchor: int, recurring: Object, steps: int) -> int:
    """Return the time a number of billing intervals after an anchor, in epoch seconds."""
    count = int(recurring["interval_count"]) * steps
    if recurring["interval"] in FIXED_LENGTHS:
        return anchor + count * FIXED_LENGTHS[recurring["interval"]]
    start = datetime.fromtimestamp(anchor, UTC)
    years, month = divmod(start.month - 1 + count * MONTHS[recurring["interval"]], 12)
    year = start.year + years
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())
