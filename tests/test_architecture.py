"""The house's rules: where imports point, who may touch what, how long a function may be, which routes there are."""

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from billing.api.contracts import CONTRACTS
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
    "adapters/stripe_gateway.py": {"stripe"},
    "api/jwks.py": {"jwt", "urllib3"},
    "api/request_models.py": {"pydantic"},
    **{f"api/operations/{name}.py": {"pydantic"} for name in OPERATIONS_WITH_REQUEST},
    "api/idempotency.py": {"aws_lambda_powertools"},
    "telemetry.py": {"aws_lambda_powertools"},
}


def name_of(path: Path) -> str:
    """A file as pytest shows it."""
    return str(path.relative_to(ROOT))


def part_of(path: Path) -> str:
    """The part of the package that a module belongs to: a folder, or itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    """A module, parsed."""
    return ast.parse(path.read_text(), path)


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports when it runs, anywhere in it; what is only for types does not count."""
    return {name for node in running_nodes(tree_of(path)) for name in _imported(node)}


def running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
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
            # `from billing import store` imports billing.adapters.repository
            return [f"{module}.{alias.name}" if module == "billing" else module for alias in node.names]
        case ast.ImportFrom():
            return ["a relative import"]
        case _:
            return []


def outsiders_of(path: Path) -> set[str]:
    """The distributions' packages that a file imports."""
    packages = {name.partition(".")[0] for name in imports_of(path)}
    return packages - sys.stdlib_module_names - {"billing"}


def each(paths: list[Path]) -> pytest.MarkDecorator:
    """Once for each file."""
    return pytest.mark.parametrize("path", paths, ids=name_of)


# --- which way imports point ------------------------------------------------------------------------------------------


@each(MODULES)
def test_imports_never_point_upward(path: Path) -> None:
    """A module imports only the parts of the package that lie below its own."""
    part = part_of(path)
    imported = {name.split(".")[1] for name in imports_of(path) if name.startswith("billing.")}
    assert imported - {part} <= MAY_IMPORT.get(part, set())


def test_every_part_has_its_place() -> None:
    """A new module says here what it may import, and the order has no circle."""
    parts = {part_of(path) for path in MODULES} - {"__init__"}
    assert parts == set(MAY_IMPORT)
    placed: set[str] = set()
    while ready := {part for part, below in MAY_IMPORT.items() if below <= placed} - placed:
        placed |= ready
    assert placed == parts


@each(MODULES)
def test_libraries_have_one_importer(path: Path) -> None:
    """The domain and the contracts import the standard library alone; each library belongs to its adapter."""
    assert outsiders_of(path) <= THIRD_PARTY.get(path.relative_to(PACKAGE).as_posix(), set())


@each(sorted((ROOT / "functions").rglob("*.py")))
def test_functions_stand_on_the_package_alone(path: Path) -> None:
    """A function names neither AWS's SDK nor Stripe's, nor any other library."""
    assert outsiders_of(path) == set()


def test_only_payments_and_the_operators_command_import_stripe() -> None:
    """What talks to Stripe is found in these places; the simulator reads the SDK's types."""
    importers = {name_of(path) for path in PRODUCT if "stripe" in {name.split(".")[0] for name in imports_of(path)}}
    allowed = ("layers/billing/billing/adapters/stripe_gateway.py", "cli/", "stripe_simulator/")
    assert [name for name in sorted(importers) if not name.startswith(allowed)] == []


# --- who may touch what -----------------------------------------------------------------------------------------------


@each([*MODULES, *sorted((ROOT / "functions").rglob("*.py"))])
def test_only_settings_reads_the_environment(path: Path) -> None:
    """Every setting is found in one place."""
    if path != PACKAGE / "settings.py":
        assert not {"os", "dotenv"} & {name.partition(".")[0] for name in imports_of(path)}


@each([path for path in MODULES if part_of(path) == "domain"])
def test_the_domain_is_pure(path: Path) -> None:
    """No clock, no chance, no file, no network: what it decides on is handed to it."""
    effects = {"asyncio", "io", "logging", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time"}
    assert not effects & {name.partition(".")[0] for name in imports_of(path)}
    called = {ast.unparse(node.func) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)}
    assert not {"datetime.now", "datetime.today", "datetime.utcnow", "open", "print"} & called


# What may be called while a module is imported: it makes values, and reaches for nothing.
HARMLESS = {
    "Application",
    "BeforeValidator",
    "Config",
    "ConfigDict",
    "Contract",
    "ErrorRow",
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
    "list_of",
    "map_of",
    "nullable",
    "object_of",
    "re.compile",
    "string",
    "timedelta",
}


@each([*MODULES, *sorted((ROOT / "functions").rglob("*.py"))])
def test_nothing_happens_at_import(path: Path) -> None:
    """No client, no connection, no file and no environment before the first use."""
    calls = {ast.unparse(call.func) for call in _calls_at_import(tree_of(path))}
    made_here = {node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)}
    harmless = HARMLESS | made_here
    assert {call for call in calls if call not in harmless and not call.endswith((".with_name", ".replace"))} == set()


def _calls_at_import(node: ast.AST) -> Iterator[ast.Call]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for outside in (*child.decorator_list, *child.args.defaults):
                yield from _calls_at_import(ast.Expression(outside))
        elif not isinstance(child, ast.Lambda):
            yield from _calls_at_import(child)


# --- how long, and how many -------------------------------------------------------------------------------------------


@each(PRODUCT)
def test_functions_are_short(path: Path) -> None:
    """No function has more lines than a screen shows."""
    long = {
        node.name: lines
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno
        and (lines := node.end_lineno - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert long == {}


@each(FUNCTIONS)
def test_a_function_is_one_handler(path: Path) -> None:
    """Each folder holds app.py and nothing else, and its handler is at most 25 lines long."""
    assert {file.name for file in path.iterdir()} - {"__pycache__"} == {"app.py"}
    for node in ast.walk(tree_of(path / "app.py")):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno
            assert node.end_lineno - node.lineno < HANDLER_LINES_MAX


@each(MODULES)
def test_only_the_endpoint_catches_everything(path: Path) -> None:
    """An unknown fault is answered in one place; everywhere else it passes."""
    broad = [
        handler
        for handler in ast.walk(tree_of(path))
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or ast.unparse(handler.type) in {"Exception", "BaseException"})
    ]
    assert len(broad) == (1 if path == PACKAGE / "api/http.py" else 0)


# --- routes -----------------------------------------------------------------------------------------------------------


def deployed_routes() -> dict[str, str]:
    """The template's routes with the folder of the function behind each; the catch-all has none."""
    routes = {}
    for resource in template()["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            for event in resource["Properties"].get("Events", {}).values():
                properties = event["Properties"]
                if event["Type"] == "HttpApi" and "Path" in properties:
                    folder = resource["Properties"]["CodeUri"].strip("/").removeprefix("functions/")
                    routes[f"{properties['Method'].upper()} {properties['Path']}"] = folder
    return routes


def test_every_documented_route_is_deployed() -> None:
    """Each route of each contract leads to its operation's function, and the template has no other."""
    documented = {route.key: str(name) for each in CONTRACTS for name, route in each.routes.items()}
    assert deployed_routes() == documented


def test_contracts_do_not_overlap() -> None:
    """No two contracts serve the same route, and each serves only what lies under its base path."""
    keys = [route.key for each in CONTRACTS for route in each.routes.values()]
    assert len(keys) == len(set(keys))
    for contract in CONTRACTS:
        assert all(f"{route.path}/".startswith(f"{contract.base_path}/") for route in contract.routes.values())


@each([*MODULES, *sorted((ROOT / "functions").rglob("*.py"))])
def test_no_code_branches_on_a_contracts_name(path: Path) -> None:
    """What a contract does is in its data: its name is told, and decides nothing."""
    decisions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Compare | ast.Match)]
    named = [ast.unparse(part) for node in decisions for part in ast.walk(node) if isinstance(part, ast.Attribute)]
    assert not [name for name in named if name.endswith("contract.name")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_module_declares_the_operation_of_its_function(name: str) -> None:
    """The module, its constant, the function's folder and the routes of the contracts have the same name."""
    assert load_operation(name).name == name
    assert ROOT / "functions" / name in FUNCTIONS
    assert [each.name for each in CONTRACTS if name in each.routes]


@each(FUNCTIONS)
def test_function_imports_only_its_own_operation(path: Path) -> None:
    """A request model imports pydantic, so a function without one imports no other operation's module."""
    prefix = "billing.api.operations."
    imported = {name.removeprefix(prefix) for name in imports_of(path / "app.py") if name.startswith(prefix)}
    assert imported == {path.name} & set(OPERATIONS)


def test_contracts_serve_only_declared_operations() -> None:
    assert {name for each in CONTRACTS for name in each.routes} == set(OPERATIONS)


@each(MODULES)
def test_only_bootstrap_imports_inside_functions(path: Path) -> None:
    """Imports that are deferred to save cold start time stand in one place."""
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]
    deferred = [ast.unparse(node) for each in functions for node in ast.walk(each) if _imported(node)]
    assert path in {PACKAGE / "bootstrap.py", PACKAGE / "catalog.py"} or deferred == []


def test_every_function_is_deployed() -> None:
    """Each folder of functions/ is a function of the template, and each function has its folder."""
    deployed = [
        resource["Properties"]["CodeUri"].strip("/")
        for resource in template()["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    ]
    assert sorted(deployed) == [name_of(path) for path in FUNCTIONS]
