"""The catalog that the deployment sells, read from `catalog.toml` beside this file."""

import tomllib
from functools import cache
from pathlib import Path

from billing.domain.plans import Catalog, Metric, MetricKind, Plan, Price

CATALOG_PATH = Path(__file__).with_name("catalog.toml")


@cache
def load_catalog() -> Catalog:
    """The catalog, read once. It was checked when the project was built (tests/adapters/test_catalog.py)."""
    tables = tomllib.loads(CATALOG_PATH.read_text())
    return Catalog(
        plans=tuple(
            Plan(**(table | {"prices": tuple(Price(**price) for price in table.get("prices", ()))}))
            for table in tables["plans"]
        ),
        metrics=tuple(Metric(**(table | {"kind": MetricKind(table["kind"])})) for table in tables.get("metrics", ())),
    )
