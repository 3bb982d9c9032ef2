"""Tests of the whole command: start, help, usage errors and errors of AWS."""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points, version
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)
from typer.testing import CliRunner

from cli.errors import map_aws_error
from cli.main import app
from tests.cli.support import DeployedStack, RunBilling, json_error, registered_commands


def complete(words: tuple[str, ...], command: Any) -> tuple[str, ...]:
    """Return a valid command line: "1" for each argument and "1h", a valid age, for each required option."""
    arguments = ["1" for each in command.params if each.param_type_name == "argument"]
    options = [
        part
        for each in command.params
        if each.opts[0].startswith("-") and each.required
        for part in (each.opts[0], "1h")
    ]
    return (*words, *arguments, *options, *CHANGES.get(words, ()))


CHANGES: Mapping[tuple[str, ...], tuple[str, ...]] = {("webhooks", "update"): ("--enable",)}
"""Options of commands that need one of several options."""
COMMANDS = registered_commands()
COMMAND_LINES = [complete(words, command) for words, command in COMMANDS.items()]
GROUPS = sorted({words[:-1] for words in COMMANDS})


def test_version_option_prints_the_installed_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == version("serverless-billing")


@pytest.mark.parametrize("words", [*GROUPS, *COMMANDS], ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


@pytest.mark.parametrize("words", [("setup", "--stak", "x"), ("accounts",), ("keys", "create"), ("nothing",)])
def test_invalid_command_line_is_a_usage_error(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, words).exit_code == 2


def test_start_does_not_import_stripe() -> None:
    """The import takes longer than most commands."""
    script = "import sys, cli.main; sys.exit('stripe' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own interpreter


class Interrupted(ModuleType):
    """Module whose import is interrupted with Ctrl-C."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_ctrl_c_during_imports_exits_130_without_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    [script] = entry_points(group="console_scripts", name="billing")
    run = script.load()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cli.main", Interrupted("cli.main"))
        with pytest.raises(SystemExit) as ended:
            run()
    assert ended.value.code == 130


@pytest.mark.engine
@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_unknown_stack_fails_with_its_name_and_the_options(run_billing: RunBilling, words: tuple[str, ...]) -> None:
    error = json_error(run_billing(*words, "--stack", "typo", "--json"))
    assert error["code"] == "stack_not_found"
    assert "typo" in error["message"]
    assert "--stack" in error["message"]


@pytest.mark.engine
def test_stack_of_another_template_fails_with_the_missing_output(run_billing: RunBilling, emulator_url: str) -> None:
    resources = {"Topic": {"Type": "AWS::SNS::Topic"}}
    cloudformation = boto3.client("cloudformation", endpoint_url=emulator_url)
    cloudformation.create_stack(StackName="foreign", TemplateBody=json.dumps({"Resources": resources}))
    error = json_error(run_billing("accounts", "show", "acme", "--stack", "foreign", "--json"))
    assert error["code"] == "stack_unfit"
    assert "TableName" in error["message"]


@pytest.mark.engine
def test_region_option_selects_the_stack(run_billing: RunBilling, stack: DeployedStack) -> None:
    error = json_error(run_billing("accounts", "show", "acme", "--json", "--region", "ap-south-1"))
    assert error["code"] == "stack_not_found"
    assert (
        json_error(run_billing("accounts", "show", "acme", "--json", "--stack", stack.name))["code"]
        == "account_not_found"
    )


def test_unreachable_aws_fails_with_one_line() -> None:
    result = CliRunner().invoke(app, ["accounts", "show", "acme"], env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert (result.exit_code, result.stdout) == (1, "")
    assert "AWS_ENDPOINT_URL" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoCredentialsError(), "aws_credentials"),
        (UnauthorizedSSOTokenError(), "aws_credentials"),
        (NoRegionError(), "aws_region"),
        (ProfileNotFound(profile="prod"), "aws_configuration"),
        (ConnectTimeoutError(endpoint_url="https://x"), "aws_unreachable"),
        (ReadTimeoutError(endpoint_url="https://x"), "aws_unreachable"),
    ],
)
def test_botocore_exception_maps_to_error_code(error: BotoCoreError, code: str) -> None:
    failure = map_aws_error(error)
    assert failure.code == code
    assert "\n" not in failure.message


@pytest.mark.parametrize(
    ("aws_code", "code"),
    [
        ("ExpiredToken", "aws_credentials"),
        ("UnrecognizedClientException", "aws_credentials"),
        ("AccessDenied", "aws_access_denied"),
        ("AccessDeniedException", "aws_access_denied"),
        ("ThrottlingException", "aws_throttled"),
        ("KMSAccessDeniedException", "aws_refused"),
    ],
)
def test_aws_error_response_maps_to_error_code(aws_code: str, code: str) -> None:
    """An unknown error names the operation and has AWS's message."""
    answer = {"Error": {"Code": aws_code, "Message": "Not\nyou"}}
    failure = map_aws_error(ClientError(answer, "PutSecretValue"))  # type: ignore[arg-type]
    assert failure.code == code
    if code in {"aws_access_denied", "aws_refused"}:
        assert "PutSecretValue" in failure.message
        assert "Not you" in failure.message
