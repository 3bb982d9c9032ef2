"""What must be true of template.yaml whatever is added to it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from billing.stripe_events.drift import LEASE_DURATION
from local.invoke import logical_id
from local.stack import ROOT
from tests.conftest import template

TEMPLATE = template()
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]
FUNCTIONS = {
    name: resource["Properties"]
    for name, resource in RESOURCES.items()
    if resource["Type"].endswith("Serverless::Function")
}

STRIPE_SECRET_READERS = {
    "CheckoutFunction",
    "PortalFunction",
    "ReconcileFunction",
    "StripeEventbridgeFunction",
    "StripeWebhookFunction",
}
UNAUTHENTICATED = {
    "ReconcileFunction",
    "StripeEventbridgeFunction",
    "StripeWebhookFunction",
    "OpenapiFunction",
    "UnknownRouteFunction",
}
TABLE_WRITERS = {
    "CheckoutFunction",
    "ReconcileFunction",
    "RecordUsageFunction",
    "StripeEventbridgeFunction",
    "StripeWebhookFunction",
}
WRITING_ACTIONS = {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"}


def _statements(function: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for policy in function.get("Policies", []):
        yield from policy["Statement"]


def _actions(function: dict[str, Any]) -> set[str]:
    return {action for statement in _statements(function) for action in _actions_of(statement)}


def _actions_of(statement: dict[str, Any]) -> list[str]:
    action = statement["Action"]
    return [action] if isinstance(action, str) else action


def _may_read(function: dict[str, Any], secret: str) -> bool:
    granted = [each for each in _statements(function) if "secretsmanager:GetSecretValue" in _actions_of(each)]
    return {"Ref": secret} in [each["Resource"] for each in granted]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_folder(name: str) -> None:
    """Each function is the one folder of functions/ that its name says, and holds nothing but app.py."""
    folder = ROOT / FUNCTIONS[name]["CodeUri"]
    assert logical_id(folder.name) == name
    assert [path.name for path in folder.iterdir() if path.name != "__pycache__"] == ["app.py"]


def test_every_folder_is_deployed() -> None:
    """No folder of functions/ is left out of the template."""
    folders = {path.parent for path in ROOT.glob("functions/*/app.py")}
    assert folders == {ROOT / function["CodeUri"].rstrip("/") for function in FUNCTIONS.values()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_log_group(name: str) -> None:
    """Each function logs to a group of its own, which forgets after the days of the parameter."""
    group = RESOURCES[FUNCTIONS[name]["LoggingConfig"]["LogGroup"]["Ref"]]
    assert group["Type"] == "AWS::Logs::LogGroup"
    assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    owners = [other for other in FUNCTIONS.values() if other["LoggingConfig"] == FUNCTIONS[name]["LoggingConfig"]]
    assert len(owners) == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_policies_name_their_resources(name: str) -> None:
    """No function is allowed an action wholesale, or on anything but a resource of this stack."""
    for statement in _statements(FUNCTIONS[name]):
        assert isinstance(statement["Resource"], dict)
        assert statement["Effect"] == "Allow"
    assert not [action for action in _actions(FUNCTIONS[name]) if "*" in action]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_least_privilege(name: str) -> None:
    """Only who calls Stripe reads its secret and carries its SDK, only who writes may write, and nobody scans."""
    function = FUNCTIONS[name]
    actions = _actions(function)
    reads_secret = name in STRIPE_SECRET_READERS
    assert _may_read(function, "StripeSecret") is reads_secret
    assert _may_read(function, "SessionSecret") is (name not in UNAUTHENTICATED)
    assert ("STRIPE_SECRET_ID" in function.get("Environment", {}).get("Variables", {})) is reads_secret
    assert ({"Ref": "StripeSdkLayer"} in function["Layers"]) is reads_secret
    unbounded = [each for each in _statements(function) if "Condition" not in each]
    writes = {action for each in unbounded for action in _actions_of(each)} & WRITING_ACTIONS
    assert bool(writes) is (name in TABLE_WRITERS)
    assert "dynamodb:Scan" not in actions


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - UNAUTHENTICATED))
def test_requests_are_counted(name: str) -> None:
    """Whoever asks with a credential is counted: each such function may write the counters of requests."""
    allowed = [each for each in _statements(FUNCTIONS[name]) if "dynamodb:UpdateItem" in _actions_of(each)]
    keys = [
        each.get("Condition", {}).get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys") for each in allowed
    ]
    assert None in keys or ["RATE#*"] in keys


def test_unknown_routes_touch_nothing() -> None:
    """The function that anybody can call without a credential has no permission at all."""
    assert _actions(FUNCTIONS["UnknownRouteFunction"]) == set()


def test_functions_answer_before_api_gateway_gives_up() -> None:
    """API Gateway waits 30 s: a function that takes longer would go on after its caller was told it failed."""
    default = TEMPLATE["Globals"]["Function"]["Timeout"]
    answering = [
        function
        for function in FUNCTIONS.values()
        if any(event["Type"] == "HttpApi" for event in function["Events"].values())
    ]
    assert all(function.get("Timeout", default) < 30 for function in answering)


@pytest.mark.parametrize("name", [name for name, each in RESOURCES.items() if "RedrivePolicy" in each["Properties"]])
def test_a_queue_hides_what_is_worked_on(name: str) -> None:
    """No message comes back while a function is at it, and what fails again and again ends where an alarm looks."""
    properties = RESOURCES[name]["Properties"]
    [timeout] = [
        function["Timeout"]
        for function in FUNCTIONS.values()
        for event in function["Events"].values()
        if event["Type"] == "SQS" and event["Properties"]["Queue"] == {"GetAtt": f"{name}.Arn"}
    ]
    assert properties["VisibilityTimeout"] > timeout
    dead_letters = properties["RedrivePolicy"]["deadLetterTargetArn"]["GetAtt"].removesuffix(".Arn")
    watched = [each["Properties"].get("Dimensions") for each in RESOURCES.values() if each["Type"].endswith("Alarm")]
    assert [{"Name": "QueueName", "Value": {"GetAtt": f"{dead_letters}.QueueName"}}] in watched


def test_a_run_outlives_its_message() -> None:
    """A run that crashed is taken up by its own message, before another run may take its place."""
    hidden = RESOURCES["ReconcileQueue"]["Properties"]["VisibilityTimeout"]
    assert LEASE_DURATION.total_seconds() > hidden


def test_a_failed_reconciliation_does_not_hide_the_next() -> None:
    """Its alarm ends by itself: dead letters count as long as they are kept, and these are of no use to anybody."""
    kept = RESOURCES["ReconcileDeadLetters"]["Properties"]["MessageRetentionPeriod"]
    assert kept == timedelta(days=1).total_seconds()


def test_no_secret_in_the_template() -> None:
    """The Stripe key and webhook secrets are neither parameters nor variables: billing setup stores them."""
    assert RESOURCES["StripeSecret"]["Properties"]["SecretString"] == "{}"
    assert not [name for name in TEMPLATE["Parameters"] if "Key" in name or "Secret" in name]


def test_table_survives() -> None:
    """Deleting or replacing the stack leaves the table; it can be restored to any second; rows expire by themselves."""
    table = RESOURCES["Table"]
    properties = table["Properties"]
    assert table["DeletionPolicy"] == "RetainExceptOnCreate"
    assert table["UpdateReplacePolicy"] == "Retain"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}


@pytest.mark.parametrize("name", [name for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"])
def test_alarm_reaches_somebody(name: str) -> None:
    """Each alarm says what to do, and mails where an address is given."""
    properties = RESOURCES[name]["Properties"]
    assert len(properties["AlarmDescription"]) > 40
    assert properties["AlarmActions"] == {"If": ["HasAlarmEmail", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]}


@pytest.mark.parametrize("kind", ["Parameters", "Outputs"])
def test_everything_is_described(kind: str) -> None:
    """Whoever deploys reads what each parameter and output means."""
    assert all(each.get("Description") for each in TEMPLATE[kind].values())
