"""API operations of Stripe's SDK: every method and path that the current API version has."""

import re
from functools import cache
from pathlib import Path

import stripe

REQUEST = re.compile(r'_request(?:_async)?\(\s*"(\w+)",\s*"(/v[12]/[^"]*)"')
PLACEHOLDER = re.compile(r"\{\w+\}")


@cache
def sdk_operations() -> frozenset[tuple[str, str]]:
    """Return the method and path of each operation, with ``{}`` for each id."""
    sources = (path.read_text() for path in Path(stripe.__path__[0]).rglob("*_service.py"))
    return frozenset(
        (method.upper(), PLACEHOLDER.sub("{}", path)) for source in sources for method, path in REQUEST.findall(source)
    )


def is_sdk_operation(method: str, path: str) -> bool:
    """Return True if the API has an operation for a request's method and path."""
    return (method, path) in sdk_operations() or any(
        method == other and re.fullmatch(template.replace("{}", "[^/]+"), path) for other, template in sdk_operations()
    )
