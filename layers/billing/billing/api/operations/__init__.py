"""API operations: one module each, with the operation's declaration and request model.

A function imports the module of its own operation only. OpenAPI documents need all of them.
"""

from importlib import import_module

from billing.api.declaration import OperationDeclaration


def load_operation(name: str) -> OperationDeclaration:
    """Return the declaration of an operation: the constant in upper case in the module of its name."""
    declaration: OperationDeclaration = getattr(import_module(f"{__name__}.{name}"), name.upper())
    return declaration
