"""Fixtures for all tests: a DynamoDB engine over HTTP, and the table that template.yaml declares."""

import io
import os
import re
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import boto3
import botocore.loaders
import pytest
import yaml

from billing.adapters.dynamodb import Table
from billing.adapters.repository import Repository
from billing.telemetry import logger
from local import emulator
from local.ports import free_port
from local.processes import start, stop
from local.stack import ROOT
from tests.sampling import configure_hypothesis, profile
from tests.wire import Wire, open_wire

AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def pytest_configure() -> None:
    """Set the number of random examples before any test module is imported."""
    configure_hypothesis()


def pytest_report_header() -> str:
    """Name the profile of random examples."""
    return f"random examples: {profile()} (TEST_PROFILE=thorough runs all)"


@pytest.fixture(scope="session", autouse=True)
def _aws_environment() -> Iterator[None]:
    """Replace the AWS, Stripe and billing variables of the shell, so that no test reaches a real account."""
    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if re.match(r"AWS_|STRIPE_|BILLING_", name)]:
        if name != "AWS_CA_BUNDLE":
            patch.delenv(name)
    for name, value in AWS_ENVIRONMENT.items():
        patch.setenv(name, value)
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def _shared_service_models() -> Iterator[None]:
    """Share one botocore loader. A session with its own loader parses the service models again, for 60 ms a client."""
    patch = pytest.MonkeyPatch()
    patch.setattr("botocore.session.create_loader", cache(botocore.loaders.create_loader))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def emulator_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the AWS emulator that is started for this run."""
    state, port = tmp_path_factory.mktemp("emulator"), free_port()
    child = start("emulator", emulator.COMMAND, emulator.environment(port, state), state / "emulator.log")
    url = f"http://127.0.0.1:{port}"
    try:
        emulator.wait_until_healthy(url, child)
        yield url
    finally:
        stop([child])


@pytest.fixture(scope="session")
def dynamodb(request: pytest.FixtureRequest) -> Any:
    """A client of the engine under test: DYNAMODB_ENDPOINT if it is set, else the emulator."""
    endpoint = os.environ.get("DYNAMODB_ENDPOINT") or request.getfixturevalue("emulator_url")
    return boto3.client("dynamodb", endpoint_url=endpoint)


@pytest.fixture
def table_name(dynamodb: Any) -> Iterator[str]:
    """Name of a new table for this test."""
    name = f"billing-{uuid.uuid4().hex}"
    dynamodb.create_table(TableName=name, **table_properties())
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    yield name
    dynamodb.delete_table(TableName=name)


@pytest.fixture
def table(dynamodb: Any, table_name: str) -> Table:
    """The product's adapter for the table."""
    return Table(dynamodb, table_name)


@pytest.fixture
def repository(table: Table) -> Repository:
    """The repository on the table."""
    return Repository(table)


@pytest.fixture(scope="session")
def _server() -> Iterator[Wire]:
    with open_wire() as wire:
        yield wire


@pytest.fixture
def wire(_server: Wire) -> Iterator[Wire]:
    """A local HTTP server without recorded requests."""
    _server.reset()
    yield _server
    _server.release_silent_connections()


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Function that returns everything the product wrote: its log, standard output and standard error."""
    log = io.StringIO()
    [handler] = logger().handlers
    monkeypatch.setattr(handler, "stream", log)

    def read() -> str:
        captured = capsys.readouterr()
        return log.getvalue() + captured.out + captured.err

    return read


@cache
def table_properties() -> dict[str, Any]:
    """Return the parameters for CreateTable from the template's table."""
    properties = template()["Resources"]["Table"]["Properties"]
    wanted = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    return {name: properties[name] for name in wanted}


@cache
def template() -> dict[str, Any]:
    """Return template.yaml as `parse_template` does."""
    return parse_template((ROOT / "template.yaml").read_text())


def parse_template(text: str) -> dict[str, Any]:
    """Return a CloudFormation template. CloudFormation's tags become {tag: value}."""

    class Loader(yaml.SafeLoader):
        """YAML loader that accepts CloudFormation's tags."""

    def construct(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
        if isinstance(node, yaml.ScalarNode):
            return {suffix: loader.construct_scalar(node)}
        if isinstance(node, yaml.SequenceNode):
            return {suffix: loader.construct_sequence(node, deep=True)}
        return {suffix: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]

    Loader.add_multi_constructor("!", construct)
    return yaml.load(text, Loader)  # type: ignore[no-any-return]  # noqa: S506
