"""Catalog of the deployment: plans, prices and metrics from `catalog.toml` beside this file."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from billing.domain.plans import Catalog, Downgrades, Metric, MetricKind, Plan, Price, Proration

CATALOG_PATH = Path(__file__).with_name("catalog.toml")


@cache
def load_catalog() -> Catalog:
    """Return the catalog, read once per process.

    The file is not validated here. `tests/test_catalog.py` validates it before it is deployed.
    """
    return parse_catalog(tomllib.loads(CATALOG_PATH.read_text()))


def parse_catalog(tables: Mapping[str, Any]) -> Catalog:
    """Return the catalog of the tables of a TOML file."""
    return Catalog(
        plans=tuple(_parse_plan(table) for table in tables["plans"]),
        metrics=tuple(Metric(**(table | {"kind": MetricKind(table["kind"])})) for table in tables.get("metrics", ())),
        downgrades=Downgrades(tables.get("portal", {}).get("downgrades", Downgrades.AT_PERIOD_END)),
    )


def _parse_plan(table: dict[str, Any]) -> Plan:
    prices = tuple(Price(**price) for price in table.get("prices", ()))
    proration = {"proration": Proration(table["proration"])} if "proration" in table else {}
    return Plan(**(table | {"prices": prices} | proration))
