"""Rules of the architecture: direction of imports, access to libraries and settings, length of functions, routes."""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract
from billing.api.operations import load_operation
from local.stack import ROOT
from tests.conftest import template

PACKAGE = ROOT / "layers/billing/billing"
FUNCTIONS = sorted((ROOT / "functions").iterdir())
MODULES = sorted(PACKAGE.rglob("*.py"))
PRODUCT = [
    path
    for folder in ("layers", "functions", "cli", "stripe_simulator", "local")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
OPERATIONS = sorted(path.stem for path in (PACKAGE / "api/operations").glob("[a-z]*.py"))
FUNCTION_LINES_MAX = 40
HANDLER_LINES_MAX = 25

# Direction of imports, from the bottom up. A part imports itself and the parts named here, nothing else.
#   domain ← stripe_events ← adapters ← services, api ← bootstrap ← functions, cli
FOUNDATION = {"settings", "telemetry", "catalog"}
MAY_IMPORT: Mapping[str, set[str]] = {
    "telemetry": set(),
    "domain": set(),
    "settings": {"domain"},
    "catalog": {"domain"},
    "stripe_events": {"domain"},
    "adapters": {"domain", "stripe_events", *FOUNDATION},
    "services": {"domain", "stripe_events", "adapters", *FOUNDATION},
    "api": {"domain", "stripe_events", "adapters", *FOUNDATION},
    "bootstrap": {"domain", "stripe_events", "adapters", "services", "api", *FOUNDATION},
}

OPERATIONS_WITH_REQUEST = [name for name in OPERATIONS if load_operation(name).request]

# Third-party packages and the modules that may import them, type-only imports aside.
THIRD_PARTY: Mapping[str, set[str]] = {
    "adapters/dynamodb.py": {"botocore"},
    "adapters/aws.py": {"botocore"},
    "adapters/secrets.py": {"botocore"},
    "adapters/sqs.py": {"botocore"},
    "adapters/event_bus.py": {"botocore"},
    "adapters/stripe_gateway.py": {"stripe"},
    "api/jwks.py": {"jwt", "urllib3"},
    "api/request_models.py": {"pydantic"},
    "api/webhook_request_models.py": {"pydantic"},
    **{f"api/operations/{name}.py": {"pydantic"} for name in OPERATIONS_WITH_REQUEST},
    "api/idempotency.py": {"aws_lambda_powertools"},
    "services/webhook_delivery.py": {"standardwebhooks"},
    "telemetry.py": {"aws_lambda_powertools"},
}


def name_of(path: Path) -> str:
    """Return a file's path from the root of the repository."""
    return str(path.relative_to(ROOT))


def part_of(path: Path) -> str:
    """Return the part of the package that a module belongs to: its folder, or the module itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    """Parse a module."""
    return ast.parse(path.read_text(), path)


def imports_of(path: Path) -> set[str]:
    """Return every module that a file imports at run time. Imports for type checkers only are left out."""
    return {name for node in running_nodes(tree_of(path)) for name in _imported(node)}


def running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below a node, except those under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from running_nodes(child)


def _imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom(module="billing", names=[ast.alias(name="__version__")]):
            return []
        case ast.ImportFrom(module=str(module), level=0):
            # `from billing import catalog` imports billing.catalog.
            return [f"{module}.{alias.name}" if module == "billing" else module for alias in node.names]
        case ast.ImportFrom():
            return ["a relative import"]
        case _:
            return []


def third_party_imports(path: Path) -> set[str]:
    """Return the third-party packages that a file imports."""
    packages = {name.partition(".")[0] for name in imports_of(path)}
    return packages - sys.stdlib_module_names - {"billing"}


def for_each(paths: list[Path]) -> pytest.MarkDecorator:
    """Run a test once for each file."""
    return pytest.mark.parametrize("path", paths, ids=name_of)


# --- Direction of imports ---------------------------------------------------------------------------------------------


@for_each(MODULES)
def test_module_imports_only_lower_parts(path: Path) -> None:
    part = part_of(path)
    imported = {name.split(".")[1] for name in imports_of(path) if name.startswith("billing.")}
    assert imported - {part} <= MAY_IMPORT.get(part, set())


def test_import_rules_cover_every_part_and_have_no_cycle() -> None:
    """A new part needs an entry in MAY_IMPORT."""
    parts = {part_of(path) for path in MODULES} - {"__init__"}
    assert parts == set(MAY_IMPORT)
    ordered: set[str] = set()
    while ready := {part for part, lower in MAY_IMPORT.items() if lower <= ordered} - ordered:
        ordered |= ready
    assert ordered == parts


@for_each(MODULES)
def test_module_imports_only_its_own_libraries(path: Path) -> None:
    """The domain and the contracts import only the standard library."""
    assert third_party_imports(path) <= THIRD_PARTY.get(path.relative_to(PACKAGE).as_posix(), set())


@for_each(sorted((ROOT / "functions").rglob("*.py")))
def test_function_imports_no_library(path: Path) -> None:
    """Functions use the package only: no AWS SDK, no Stripe SDK, no other library."""
    assert third_party_imports(path) == set()


def test_stripe_is_imported_only_by_gateway_cli_and_simulator() -> None:
    """The simulator reads the SDK's types."""
    importers = {name_of(path) for path in PRODUCT if "stripe" in {name.split(".")[0] for name in imports_of(path)}}
    allowed = ("layers/billing/billing/adapters/stripe_gateway.py", "cli/", "stripe_simulator/")
    assert [name for name in sorted(importers) if not name.startswith(allowed)] == []


# --- Libraries, settings and side effects -----------------------------------------------------------------------------


@for_each([*MODULES, *sorted((ROOT / "functions").rglob("*.py"))])
def test_environment_is_read_only_by_settings(path: Path) -> None:
    if path != PACKAGE / "settings.py":
        assert not {"os", "dotenv"} & {name.partition(".")[0] for name in imports_of(path)}


@for_each([path for path in MODULES if part_of(path) == "domain"])
def test_domain_has_no_side_effects(path: Path) -> None:
    """The domain reads no clock, random number, file or network. Callers pass such values as arguments."""
    effects = {"asyncio", "io", "logging", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time"}
    assert not effects & {name.partition(".")[0] for name in imports_of(path)}
    called = {ast.unparse(node.func) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)}
    assert not {"datetime.now", "datetime.today", "datetime.utcnow", "open", "print"} & called


# Calls that are allowed while a module is imported. They create values and have no side effects.
IMPORT_TIME_CALLS = {
    "Application",
    "BeforeValidator",
    "Config",
    "ConfigDict",
    "Contract",
    "ErrorRow",
    "PathId",
    "Field",
    "ItemCodec",
    "Logger",
    "OperationDeclaration",
    "Path",
    "RequestFields",
    "ResponseFields",
    "Route",
    "TypeVar",
    "app.operation",
    "boolean",
    "cache",
    "dataclass",
    "field",
    "frozenset",
    "integer",
    "ip_network",
    "list_of",
    "map_of",
    "nullable",
    "object_of",
    "open_object",
    "re.compile",
    "string",
    "timedelta",
}


@for_each([*MODULES, *sorted((ROOT / "functions").rglob("*.py"))])
def test_import_has_no_side_effects(path: Path) -> None:
    """A module uses no client, connection, file or environment variable before its first call."""
    calls = {ast.unparse(call.func) for call in _calls_at_import(tree_of(path))}
    own_classes = {node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)}
    allowed = IMPORT_TIME_CALLS | own_classes
    assert {call for call in calls if call not in allowed and not call.endswith((".with_name", ".replace"))} == set()


def _calls_at_import(node: ast.AST) -> Iterator[ast.Call]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for evaluated in (*child.decorator_list, *child.args.defaults):
                yield from _calls_at_import(ast.Expression(evaluated))
        elif not isinstance(child, ast.Lambda):
            yield from _calls_at_import(child)


# --- Functions and handlers -------------------------------------------------------------------------------------------


@for_each(PRODUCT)
def test_functions_have_at_most_40_lines(path: Path) -> None:
    long = {
        node.name: lines
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno
        and (lines := node.end_lineno - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert long == {}


@for_each(FUNCTIONS)
def test_function_folder_contains_only_a_short_app(path: Path) -> None:
    """Each folder contains only app.py, with functions of at most 25 lines."""
    assert {file.name for file in path.iterdir()} - {"__pycache__"} == {"app.py"}
    for node in ast.walk(tree_of(path / "app.py")):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno
            assert node.end_lineno - node.lineno < HANDLER_LINES_MAX


@for_each(MODULES)
def test_only_http_module_catches_every_exception(path: Path) -> None:
    """One place turns unknown exceptions into a response. Everywhere else they propagate."""
    broad = [
        handler
        for handler in ast.walk(tree_of(path))
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or ast.unparse(handler.type) in {"Exception", "BaseException"})
    ]
    assert len(broad) == (1 if path == PACKAGE / "api/http.py" else 0)


# --- Routes -----------------------------------------------------------------------------------------------------------


def deployed_routes() -> dict[str, str]:
    """Return the function's folder for each route of the template. The catch-all route is left out."""
    routes = {}
    for resource in template()["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            for event in resource["Properties"].get("Events", {}).values():
                properties = event["Properties"]
                if event["Type"] == "HttpApi" and "Path" in properties:
                    folder = resource["Properties"]["CodeUri"].strip("/").removeprefix("functions/")
                    routes[f"{properties['Method'].upper()} {properties['Path']}"] = folder
    return routes


def test_template_deploys_exactly_the_routes_of_the_contracts() -> None:
    documented = {route.key: str(name) for contract in CONTRACTS for name, route in contract.routes.items()}
    assert deployed_routes() == documented


def test_contract_routes_are_unique_and_below_their_base_path() -> None:
    keys = [route.key for contract in CONTRACTS for route in contract.routes.values()]
    assert len(keys) == len(set(keys))
    for contract in CONTRACTS:
        assert all(f"{route.path}/".startswith(f"{contract.base_path}/") for route in contract.routes.values())


@for_each([*MODULES, *sorted((ROOT / "functions").rglob("*.py"))])
def test_no_code_branches_on_the_name_of_a_contract(path: Path) -> None:
    """Contracts differ by their data only."""
    decisions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Compare | ast.Match)]
    named = [ast.unparse(part) for node in decisions for part in ast.walk(node) if isinstance(part, ast.Attribute)]
    assert not [name for name in named if name.endswith("contract.name")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_module_declares_the_operation_of_its_function(name: str) -> None:
    """The module, its constant, the function's folder and the routes of the contracts have the same name."""
    assert load_operation(name).name == name
    assert ROOT / "functions" / name in FUNCTIONS
    assert [each.name for each in CONTRACTS if name in each.routes]


@for_each(FUNCTIONS)
def test_function_imports_only_its_own_operation(path: Path) -> None:
    """A request model imports pydantic, so a function without one imports no other operation's module."""
    prefix = "billing.api.operations."
    imported = {name.removeprefix(prefix) for name in imports_of(path / "app.py") if name.startswith(prefix)}
    assert imported == {path.name} & set(OPERATIONS)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_path_parameters_are_the_account_and_the_ids_of_the_operation(contract: Contract) -> None:
    for name, route in contract.routes.items():
        account = {contract.account_parameter} & set(re.findall(r"\{(\w+)\}", contract.base_path))
        assert set(re.findall(r"\{(\w+)\}", route.path)) == account | load_operation(name).path_ids.keys()


def test_contracts_serve_only_declared_operations() -> None:
    assert {name for each in CONTRACTS for name in each.routes} == set(OPERATIONS)


@for_each(MODULES)
def test_only_bootstrap_imports_inside_functions(path: Path) -> None:
    """Imports that are deferred to save cold start time stand in one place."""
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]
    deferred = [ast.unparse(node) for each in functions for node in ast.walk(each) if _imported(node)]
    assert path == PACKAGE / "bootstrap.py" or deferred == []


def test_template_deploys_every_function_folder() -> None:
    deployed = [
        resource["Properties"]["CodeUri"].strip("/")
        for resource in template()["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    ]
    assert sorted(deployed) == [name_of(path) for path in FUNCTIONS]
