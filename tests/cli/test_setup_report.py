"""Tests of the comparison between Stripe and the catalog."""

import pytest

from cli.setup_report import includes


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}),
        ({"a": [{"id": 1, "more": 0}, {"id": 2}]}, {"a": [{"id": 2}, {"id": 1}]}),
        ({"a": []}, {"a": []}),
        ({"a": 1}, {}),
    ],
)
def test_includes_ignores_additional_fields_and_list_order(found: object, wanted: object) -> None:
    assert includes(found, wanted)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ({"a": 1}, {"a": 2}),
        ({}, {"a": None, "b": 1}),
        (None, {"a": 1}),
        ({"a": None}, {"a": {"b": 1}}),
        ({"a": ["x", "y"]}, {"a": ["x"]}),
        ({"a": None}, {"a": ["x"]}),
        ({"a": ["x", "x"]}, {"a": ["x", "y"]}),
        ({"a": "xy"}, {"a": ["x", "y"]}),
    ],
)
def test_includes_rejects_other_missing_and_surplus_values(found: object, wanted: object) -> None:
    assert not includes(found, wanted)
