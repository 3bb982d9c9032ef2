"""The catalog that the deployment sells, read from `catalog.toml` beside this file.

Reading TOML costs a cold start 30 ms. So `make` also writes the file as JSON, `catalog.json`, with the digest of what
it was made of; where that is not of this very `catalog.toml`, the TOML is read.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from billing.domain.plans import Catalog, Metric, MetricKind, Plan, Price

CATALOG_PATH = Path(__file__).with_name("catalog.toml")
COMPILED_PATH = Path(__file__).with_name("catalog.json")


@cache
def load_catalog() -> Catalog:
    """The catalog, read once. It was checked when the project was built (tests/test_catalog.py)."""
    tables = read_tables(CATALOG_PATH, COMPILED_PATH)
    return Catalog(
        plans=tuple(
            Plan(**(table | {"prices": tuple(Price(**price) for price in table.get("prices", ()))}))
            for table in tables["plans"]
        ),
        metrics=tuple(Metric(**(table | {"kind": MetricKind(table["kind"])})) for table in tables.get("metrics", ())),
    )


def read_tables(source: Path, compiled: Path) -> dict[str, Any]:
    """The tables of a TOML file, out of its JSON if that was made of it."""
    text = source.read_bytes()
    found = json.loads(compiled.read_bytes()) if compiled.exists() else {}
    if found.get("made_of") == _digest(text):
        tables: dict[str, Any] = found["tables"]
        return tables
    return _parse(text)


def compile_tables(source: Path, compiled: Path) -> None:
    """Write a TOML file's tables as JSON."""
    text = source.read_bytes()
    compiled.write_text(json.dumps({"made_of": _digest(text), "tables": _parse(text)}))


def _parse(text: bytes) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - what the JSON is there to avoid

    return tomllib.loads(text.decode())


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
