"""Times as ISO 8601 text in UTC."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.timestamps import iso, parse_utc


@given(st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_time_is_parsed_to_the_second_and_with_its_fraction(moment: datetime) -> None:
    assert parse_utc(str(iso(moment))) == moment.replace(microsecond=0)
    assert parse_utc(moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")) == moment


def test_parsed_time_is_in_utc() -> None:
    parsed = parse_utc("2026-11-21T14:00:00Z")
    assert parsed
    assert parsed.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-21",
        "2026-11-21T14:00Z",
        "2026-11-21T14:00:00",
        "2026-11-21T14:00:00+00:00",
        "2026-11-21T14:00:00.Z",
        "2026-11-21T14:00:00.1234567Z",
        "2026-11-21T14:00:00Z\n",
        " 2026-11-21T14:00:00Z",
        "2026-11-21T24:00:01Z",
        "2026-11-21T14:00:60Z",
        "2026-02-29T14:00:00Z",
        "0000-01-01T00:00:00Z",
        "20261121T140000Z",
        "\uff12026-11-21T14:00:00Z",
    ],
)
def test_text_of_another_form_is_no_time(text: str) -> None:
    assert parse_utc(text) is None
