"""Times as text: ISO 8601 in UTC."""

from datetime import datetime


def iso(moment: datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC with `Z`, to the second; None stays None."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
