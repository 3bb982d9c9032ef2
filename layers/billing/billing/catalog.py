"""Catalog of the deployment: plans, prices and metrics from `catalog.toml` beside this file."""

import tomllib
from functools import cache
from pathlib import Path

from billing.domain.plans import Catalog, Metric, MetricKind, Plan, Price

CATALOG_PATH = Path(__file__).with_name("catalog.toml")


@cache
def load_catalog() -> Catalog:
    """Return the catalog, read once per process.

    The file is not validated here. `tests/test_catalog.py` validates it before it is deployed.
    """
    tables = tomllib.loads(CATALOG_PATH.read_text())
    return Catalog(
        plans=tuple(
            Plan(**(table | {"prices": tuple(Price(**price) for price in table.get("prices", ()))}))
            for table in tables["plans"]
        ),
        metrics=tuple(Metric(**(table | {"kind": MetricKind(table["kind"])})) for table in tables.get("metrics", ())),
    )
