"""Times as text: ISO 8601 in UTC."""

import re
from datetime import datetime

UTC_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")


def iso(moment: datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC with `Z`, to the second; None stays None."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def parse_utc(text: str) -> datetime | None:
    """Return the time of ISO 8601 text in UTC with `Z`; None if the text has another form."""
    if not UTC_TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # for example the 30th of February
        return None
