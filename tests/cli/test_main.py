"""The command as a whole: how it starts, and what it says where AWS is not as it should be."""

import json
import subprocess
import sys
from importlib.metadata import entry_points, version
from types import ModuleType

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
from tests.cli.conftest import Billing, Stack, refusal

COMMANDS = [
    ("setup",),
    ("accounts", "create", "acme"),
    ("accounts", "show", "acme"),
    ("keys", "create", "acme"),
    ("keys", "list", "acme"),
    ("keys", "revoke", "acme", "key_1"),
    ("sessions", "add-secret"),
    ("sessions", "drop-previous"),
    ("sessions", "token", "acme", "--user", "user_1"),
]


def test_the_version_is_the_packages() -> None:
    """What is installed is what is said."""
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == version("serverless-billing")


@pytest.mark.parametrize("words", [(), ("accounts",), ("keys",), ("sessions",), *COMMANDS])
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    """Each group and command explains itself."""
    result = CliRunner().invoke(app, [*words[:2], "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


@pytest.mark.parametrize("words", [("setup", "--stak", "x"), ("accounts",), ("keys", "create"), ("nothing",)])
def test_a_wrong_command_line_is_a_usage_error(words: tuple[str, ...]) -> None:
    """Exit code 2, as of every other command."""
    assert CliRunner().invoke(app, words).exit_code == 2


def test_only_setup_waits_for_the_stripe_sdk() -> None:
    """Importing it takes longer than a look at an account."""
    script = "import sys, cli.main; sys.exit('stripe' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own interpreter


class Interrupted(ModuleType):
    """A module during whose import somebody presses Ctrl-C."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_ctrl_c_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends without a traceback, by the exit code that shells use for it."""
    [script] = entry_points(group="console_scripts", name="billing")
    run = script.load()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cli.main", Interrupted("cli.main"))
        with pytest.raises(SystemExit) as ended:
            run()
    assert ended.value.code == 130


@pytest.mark.engine
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_stack_that_is_not_there_is_said(billing: Billing, words: tuple[str, ...]) -> None:
    """Every command names the stack that it looked for, and the ways to name another."""
    error = refusal(billing(*words, "--stack", "typo", "--json"))
    assert error["code"] == "stack_not_found"
    assert "typo" in error["message"]
    assert "--stack" in error["message"]


@pytest.mark.engine
def test_another_products_stack_is_said(billing: Billing, emulator_url: str) -> None:
    """A stack of that name exists, and is not of this template."""
    resources = {"Topic": {"Type": "AWS::SNS::Topic"}}
    cloudformation = boto3.client("cloudformation", endpoint_url=emulator_url)
    cloudformation.create_stack(StackName="foreign", TemplateBody=json.dumps({"Resources": resources}))
    error = refusal(billing("accounts", "show", "acme", "--stack", "foreign", "--json"))
    assert error["code"] == "stack_unfit"
    assert "TableName" in error["message"]


@pytest.mark.engine
def test_the_region_can_be_chosen(billing: Billing, stack: Stack) -> None:
    """The same name in another region is another stack."""
    error = refusal(billing("accounts", "show", "acme", "--json", "--region", "ap-south-1"))
    assert error["code"] == "stack_not_found"
    assert refusal(billing("accounts", "show", "acme", "--json", "--stack", stack.name))["code"] == "account_not_found"


def test_an_aws_that_is_not_there_is_said() -> None:
    """The port is closed: one line, and no traceback."""
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
def test_what_botocore_raises_has_words(error: BotoCoreError, code: str) -> None:
    """Each says what the operator has to set."""
    failure = map_aws_error(error)
    assert failure.code == code
    assert "\n" not in failure.message


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("ExpiredToken", "aws_credentials"),
        ("UnrecognizedClientException", "aws_credentials"),
        ("AccessDenied", "aws_access_denied"),
        ("AccessDeniedException", "aws_access_denied"),
        ("ThrottlingException", "aws_throttled"),
        ("KMSAccessDeniedException", "aws_refused"),
    ],
)
def test_what_aws_answers_has_words(said: str, code: str) -> None:
    """What is not in the table still names the operation and AWS's own words."""
    answer = {"Error": {"Code": said, "Message": "Not\nyou"}}
    failure = map_aws_error(ClientError(answer, "PutSecretValue"))  # type: ignore[arg-type]
    assert failure.code == code
    if code in {"aws_access_denied", "aws_refused"}:
        assert "PutSecretValue" in failure.message
        assert "Not you" in failure.message
