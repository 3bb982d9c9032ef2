"""Rules for template.yaml: permissions of each function, queues, alarms, retention and descriptions."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from billing.adapters.sqs import DELAY_SECONDS_MAX
from billing.api.contracts import CONTRACTS
from billing.api.operations import load_operation
from billing.domain.webhook_deliveries import LEASE
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
MANAGED_POLICIES = {
    name: resource["Properties"]["PolicyDocument"]["Statement"]
    for name, resource in RESOURCES.items()
    if resource["Type"] == "AWS::IAM::ManagedPolicy"
}

# --- Permissions: actions by resource. A table entry includes its partition keys. -------------------------------------

type Permissions = Mapping[str, set[str]]

API_REQUEST: Permissions = {
    "Table KEY#*": {"dynamodb:GetItem"},
    "Table RATE#*": {"dynamodb:UpdateItem"},
    "SessionSecret": {"secretsmanager:GetSecretValue"},
}
IDEMPOTENCY: Permissions = {
    "Table IDEMPOTENCY#*": {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"},
}
STRIPE_SECRET: Permissions = {
    "StripeSecret": {"secretsmanager:GetSecretValue"},
}
EVENTS: Permissions = {
    **STRIPE_SECRET,
    "Table ACCOUNT#*": {"dynamodb:Query", "dynamodb:BatchGetItem", "dynamodb:PutItem"},
    "Table CUSTOMER#*": {"dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:ConditionCheckItem"},
    "Table EVENT#*": {"dynamodb:BatchGetItem", "dynamodb:PutItem"},
}

READ_ENDPOINTS: Permissions = {
    "Table ACCOUNT#*": {"dynamodb:GetItem"},
}
SAVE_ENDPOINTS: Permissions = {
    "Table ACCOUNT#*": {"dynamodb:GetItem", "dynamodb:PutItem"},
}
RESET_HEALTH: Permissions = {
    "Table HOOK#*": {"dynamodb:DeleteItem"},
}
REQUEST_DELIVERIES: Permissions = {
    "DeliveryQueue": {"sqs:SendMessage"},
}

PERMISSIONS: Mapping[str, Permissions] = {
    "SubscriptionFunction": {
        **API_REQUEST,
        "Table ACCOUNT#*": {"dynamodb:Query"},
    },
    "InvoicesFunction": {
        **API_REQUEST,
        "Table ACCOUNT#*": {"dynamodb:Query"},
    },
    "UsageFunction": {
        **API_REQUEST,
        "Table ACCOUNT#*": {"dynamodb:Query", "dynamodb:BatchGetItem"},
    },
    "RecordUsageFunction": {
        **API_REQUEST,
        **IDEMPOTENCY,
        "Table ACCOUNT#*": {"dynamodb:Query", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
        "Table MEASUREMENT#*": {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
    },
    "CheckoutFunction": {
        **API_REQUEST,
        **IDEMPOTENCY,
        **EVENTS,
    },
    "PortalFunction": {
        **API_REQUEST,
        **IDEMPOTENCY,
        **STRIPE_SECRET,
        "Table ACCOUNT#*": {"dynamodb:Query", "dynamodb:PutItem"},
    },
    "PlansFunction": API_REQUEST,
    "OpenapiFunction": {},
    "UnknownRouteFunction": {},
    "StripeWebhookFunction": EVENTS,
    "StripeEventbridgeFunction": EVENTS,
    "ReconcileFunction": {
        **EVENTS,
        "Table RECONCILIATION": {"dynamodb:GetItem", "dynamodb:PutItem"},
        "ReconcileQueue": {"sqs:SendMessage", "sqs:ChangeMessageVisibility"},
    },
    "CreateWebhookEndpointFunction": {**API_REQUEST, **IDEMPOTENCY, **SAVE_ENDPOINTS},
    "ListWebhookEndpointsFunction": {**API_REQUEST, **READ_ENDPOINTS},
    "GetWebhookEndpointFunction": {**API_REQUEST, **READ_ENDPOINTS},
    "UpdateWebhookEndpointFunction": {**API_REQUEST, **SAVE_ENDPOINTS, **RESET_HEALTH},
    "DeleteWebhookEndpointFunction": {**API_REQUEST, **SAVE_ENDPOINTS, **RESET_HEALTH},
    "RotateWebhookSecretFunction": {**API_REQUEST, **IDEMPOTENCY, **SAVE_ENDPOINTS},
    "SendTestEventFunction": {**API_REQUEST, **IDEMPOTENCY, **READ_ENDPOINTS},
    "ListWebhookDeliveriesFunction": {
        **API_REQUEST,
        **READ_ENDPOINTS,
        "Table HOOK#*": {"dynamodb:Query"},
    },
    "ReplayEventsFunction": {
        **API_REQUEST,
        **IDEMPOTENCY,
        **REQUEST_DELIVERIES,
        "Table ACCOUNT#*": {"dynamodb:GetItem", "dynamodb:Query"},
        "Table HOOK#*": {"dynamodb:BatchGetItem", "dynamodb:PutItem"},
    },
    "RedeliverFunction": {
        **API_REQUEST,
        **IDEMPOTENCY,
        **READ_ENDPOINTS,
        **REQUEST_DELIVERIES,
        "Table HOOK#*": {"dynamodb:GetItem", "dynamodb:PutItem"},
    },
    "DispatchEventsFunction": {
        **REQUEST_DELIVERIES,
        "Table ACCOUNT#*": {"dynamodb:BatchGetItem"},
        "Table DEPLOYMENT": {"dynamodb:BatchGetItem"},
        "DispatchDeadLetters": {"sqs:SendMessage"},
    },
    "DeliverEventsFunction": {
        "Table ACCOUNT#*": {"dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem"},
        "Table DEPLOYMENT": {"dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem"},
        "Table HOOK#*": {"dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"},
        "DeliveryQueue": {"sqs:DeleteMessage"},
        "RetryQueue": {"sqs:SendMessage"},
        "arn:${AWS::Partition}:events:*:*:event-bus/*": {"events:PutEvents"},
    },
    "RequestDeliveriesFunction": {
        **REQUEST_DELIVERIES,
        "Table/index/Events DUE#*": {"dynamodb:Query"},
    },
}

CHECKS_URLS = {
    "CreateWebhookEndpointFunction",
    "UpdateWebhookEndpointFunction",
    "SendTestEventFunction",
    "DeliverEventsFunction",
}
"""Functions that check the URL of a webhook endpoint or send to it."""

POLICIES_PER_ROLE_MAX = 10
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
SAM_POLICIES_MAX = 3
"""AWS managed policies that SAM attaches: logs, X-Ray and, for a consumer, its queue or stream."""


OPTIONAL_POLICIES = {
    name: resource["Properties"]["Roles"]
    for name, resource in RESOURCES.items()
    if resource["Type"] == "AWS::IAM::ManagedPolicy" and "Condition" in resource
}
"""Roles of each managed policy that exists only with an optional feature. It names them, because a function cannot."""


def _policies(name: str) -> list[dict[str, Any]]:
    """Return a function's policies, also those of optional features."""
    optional = [{"Ref": policy} for policy, roles in OPTIONAL_POLICIES.items() if {"Ref": f"{name}Role"} in roles]
    return [*FUNCTIONS[name].get("Policies", []), *optional]


def _statements(name: str) -> Iterator[dict[str, Any]]:
    for policy in _policies(name):
        yield from MANAGED_POLICIES[policy["Ref"]] if "Ref" in policy else policy["Statement"]


def _actions(statement: Mapping[str, Any]) -> list[str]:
    action = statement["Action"]
    return [action] if isinstance(action, str) else action


def _resources(statement: Mapping[str, Any]) -> list[str]:
    name = _resource_name(statement["Resource"])
    keys = statement.get("Condition", {}).get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys", [])
    return [f"{name} {key}" for key in keys] or [name]


def _resource_name(resource: Mapping[str, Any]) -> str:
    """Return the logical id of a resource or parameter; an index has the name of its table in front."""
    [(tag, value)] = resource.items()
    if tag == "If":
        return _resource_name(value[1])
    return str(value).replace("${Table.Arn}", "Table").removesuffix(".Arn")


def _permissions(name: str) -> Permissions:
    permissions: dict[str, set[str]] = {}
    for statement in _statements(name):
        for resource in _resources(statement):
            permissions.setdefault(resource, set()).update(_actions(statement))
    return permissions


def _all_statements() -> list[dict[str, Any]]:
    inline = [
        statement
        for name in FUNCTIONS
        for policy in _policies(name)
        if "Ref" not in policy
        for statement in policy["Statement"]
    ]
    return [*inline, *(statement for policy in MANAGED_POLICIES.values() for statement in policy)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_exactly_the_permissions_of_the_table(name: str) -> None:
    assert _permissions(name) == PERMISSIONS[name]


def test_statement_is_not_repeated() -> None:
    statements = _all_statements()
    contents = [json.dumps(statement | {"Sid": ""}, sort_keys=True) for statement in statements]
    assert len(set(contents)) == len(contents)
    sids = [statement["Sid"] for statement in statements]
    assert len(set(sids)) == len(sids)


@pytest.mark.parametrize("name", sorted(MANAGED_POLICIES.keys() - OPTIONAL_POLICIES.keys()))
def test_managed_policy_is_shared_by_functions(name: str) -> None:
    users = [function for function in FUNCTIONS if {"Ref": name} in _policies(function)]
    assert len(users) > 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_stays_below_the_quota_of_managed_policies(name: str) -> None:
    attached = [policy for policy in _policies(name) if "Ref" in policy]
    assert len(attached) + SAM_POLICIES_MAX <= POLICIES_PER_ROLE_MAX


@pytest.mark.parametrize("statement", _all_statements(), ids=lambda statement: statement["Sid"])
def test_statement_names_actions_and_one_resource_of_the_stack(statement: Mapping[str, Any]) -> None:
    assert statement["Effect"] == "Allow"
    assert isinstance(statement["Resource"], dict)
    assert not [action for action in _actions(statement) if "*" in action]


@pytest.mark.parametrize("statement", _all_statements(), ids=lambda statement: statement["Sid"])
def test_table_statement_is_limited_to_partition_keys(statement: Mapping[str, Any]) -> None:
    on_table = _resource_name(statement["Resource"]) in {"Table", "Table/index/Events"}
    assert ("dynamodb:LeadingKeys" in json.dumps(statement.get("Condition"))) is on_table
    assert on_table is all(action.startswith("dynamodb:") for action in _actions(statement))


def test_functions_of_routes_with_credentials_may_authenticate_and_count_requests() -> None:
    operations = {name for contract in CONTRACTS for name in contract.routes}
    authenticated = {logical_id(name) for name in operations if load_operation(name).credentials}
    permissions = {name: _permissions(name) for name in FUNCTIONS}
    assert {name for name, each in permissions.items() if "Table RATE#*" in each} == authenticated
    assert {name for name, each in permissions.items() if "SessionSecret" in each} == authenticated


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_with_the_stripe_secret_has_the_stripe_sdk_layer(name: str) -> None:
    function = FUNCTIONS[name]
    calls_stripe = "StripeSecret" in _permissions(name)
    assert ("STRIPE_SECRET_ID" in function.get("Environment", {}).get("Variables", {})) is calls_stripe
    assert function.get("Layers", []) == ([{"Ref": "StripeSdkLayer"}] if calls_stripe else [])


def test_every_function_has_the_billing_layer() -> None:
    assert TEMPLATE["Globals"]["Function"]["Layers"] == [{"Ref": "BillingLayer"}]


# --- Functions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_folder_has_the_functions_name_and_only_app_py(name: str) -> None:
    folder = ROOT / FUNCTIONS[name]["CodeUri"]
    assert logical_id(folder.name) == name
    assert [path.name for path in folder.iterdir() if path.name != "__pycache__"] == ["app.py"]


def test_every_function_folder_is_deployed() -> None:
    folders = {path.parent for path in ROOT.glob("functions/*/app.py")}
    assert folders == {ROOT / function["CodeUri"].rstrip("/") for function in FUNCTIONS.values()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_its_own_log_group_with_retention(name: str) -> None:
    group = RESOURCES[FUNCTIONS[name]["LoggingConfig"]["LogGroup"]["Ref"]]
    assert group["Type"] == "AWS::Logs::LogGroup"
    assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    owners = [other for other in FUNCTIONS.values() if other["LoggingConfig"] == FUNCTIONS[name]["LoggingConfig"]]
    assert len(owners) == 1


def test_api_function_times_out_before_api_gateway() -> None:
    """API Gateway waits 30 seconds. A slower function would succeed after its caller received an error."""
    default = TEMPLATE["Globals"]["Function"]["Timeout"]
    answering = [
        function
        for function in FUNCTIONS.values()
        if any(event["Type"] == "HttpApi" for event in function["Events"].values())
    ]
    assert all(function.get("Timeout", default) < 30 for function in answering)


def test_cors_permits_the_methods_of_all_routes() -> None:
    cors = RESOURCES["HttpApi"]["Properties"]["CorsConfiguration"]
    methods = {route.method for contract in CONTRACTS for route in contract.routes.values()}
    assert set(cors["AllowMethods"]) == {*methods, "OPTIONS"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_exactly_the_webhook_variables_that_it_needs(name: str) -> None:
    """A function that sends to the delivery queue needs both queues: `delivery_queues` connects them."""
    variables = FUNCTIONS[name].get("Environment", {}).get("Variables", {})
    permissions = _permissions(name)
    sends = any("sqs:SendMessage" in permissions.get(queue, ()) for queue in ("DeliveryQueue", "RetryQueue"))
    assert [each in variables for each in ("DELIVERY_QUEUE_URL", "RETRY_QUEUE_URL")] == [sends, sends]
    assert ("ALLOW_LOOPBACK_WEBHOOKS" in variables) is (name in CHECKS_URLS)


def test_functions_that_send_messages_to_each_other_may_do_so_again_and_again() -> None:
    """An attempt that is postponed passes through both functions. Lambda stops such a loop after 16 rounds."""
    loops = [name for name, each in FUNCTIONS.items() if each.get("RecursiveLoop") == "Allow"]
    assert sorted(loops) == ["DeliverEventsFunction", "ReconcileFunction", "RequestDeliveriesFunction"]


# --- Queues -----------------------------------------------------------------------------------------------------------

QUEUES = {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == "AWS::SQS::Queue"}
EVENT_SOURCES = [
    (function, event["Properties"]) for function in FUNCTIONS.values() for event in function["Events"].values()
]
CONSUMERS = {
    source["Queue"]["GetAtt"].removesuffix(".Arn"): function for function, source in EVENT_SOURCES if "Queue" in source
}
"""Function of each queue that has one."""
DEAD_LETTERS = {
    name: queue["RedrivePolicy"]["deadLetterTargetArn"]["GetAtt"].removesuffix(".Arn")
    for name, queue in QUEUES.items()
    if "RedrivePolicy" in queue
}
"""Dead-letter queue of each queue that has one."""


def test_every_queue_has_a_function_or_takes_dead_letters() -> None:
    failed = {
        source["DestinationConfig"]["OnFailure"]["Destination"]["GetAtt"].removesuffix(".Arn")
        for _, source in EVENT_SOURCES
        if "DestinationConfig" in source
    }
    assert QUEUES.keys() == CONSUMERS.keys() | {*DEAD_LETTERS.values()} | failed


@pytest.mark.parametrize("name", CONSUMERS)
def test_queue_hides_messages_longer_than_its_function_runs(name: str) -> None:
    assert QUEUES[name]["VisibilityTimeout"] > CONSUMERS[name]["Timeout"]


@pytest.mark.parametrize("name", sorted(QUEUES.keys() - CONSUMERS.keys()))
def test_dead_letter_queue_has_an_alarm(name: str) -> None:
    watched = [each["Properties"].get("Dimensions") for each in RESOURCES.values() if each["Type"].endswith("Alarm")]
    assert [{"Name": "QueueName", "Value": {"GetAtt": f"{name}.QueueName"}}] in watched


@pytest.mark.parametrize("name", DEAD_LETTERS)
def test_dead_letter_queue_is_of_the_kind_of_its_queue(name: str) -> None:
    """SQS requires a FIFO queue as the dead-letter queue of a FIFO queue."""
    assert QUEUES[DEAD_LETTERS[name]].get("FifoQueue") == QUEUES[name].get("FifoQueue")


@pytest.mark.parametrize("name", QUEUES)
def test_queue_is_encrypted(name: str) -> None:
    assert QUEUES[name]["SqsManagedSseEnabled"] is True


def test_message_of_a_crashed_worker_returns_after_its_attempt_has_ended() -> None:
    assert LEASE.total_seconds() < QUEUES["DeliveryQueue"]["VisibilityTimeout"]


def test_retry_queue_keeps_messages_longer_than_their_delay() -> None:
    assert QUEUES["RetryQueue"]["MessageRetentionPeriod"] > DELAY_SECONDS_MAX


def test_reconciliation_lease_outlives_its_hidden_message() -> None:
    """The message of a crashed run returns and continues it, before another run may take the lease."""
    hidden = RESOURCES["ReconcileQueue"]["Properties"]["VisibilityTimeout"]
    assert LEASE_DURATION.total_seconds() > hidden


def test_reconciliation_dead_letters_expire_after_a_day() -> None:
    """Their alarm ends with them, so that it can report the next failure."""
    kept = RESOURCES["ReconcileDeadLetters"]["Properties"]["MessageRetentionPeriod"]
    assert kept == timedelta(days=1).total_seconds()


# --- Data -------------------------------------------------------------------------------------------------------------


def test_template_contains_no_secret() -> None:
    assert RESOURCES["StripeSecret"]["Properties"]["SecretString"] == "{}"
    assert not [name for name in TEMPLATE["Parameters"] if "Key" in name or "Secret" in name]


def test_table_is_retained_backed_up_and_expires_items() -> None:
    table = RESOURCES["Table"]
    properties = table["Properties"]
    assert table["DeletionPolicy"] == "RetainExceptOnCreate"
    assert table["UpdateReplacePolicy"] == "Retain"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}


# --- Alarms and descriptions ------------------------------------------------------------------------------------------

ALARMS = {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
ALARMS_PAGE = "docs/reference/alarms.md"


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_is_sent_to_the_alarm_email(name: str) -> None:
    actions = {"If": ["HasAlarmEmail", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]}
    assert ALARMS[name]["AlarmActions"] == actions


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_description_refers_to_its_documentation(name: str) -> None:
    description = ALARMS[name]["AlarmDescription"]
    assert len(description) > 40
    assert description.endswith(f"See {ALARMS_PAGE}.")


def test_every_alarm_is_documented() -> None:
    rows = [
        line.split("|")[1].strip(" `") for line in (ROOT / ALARMS_PAGE).read_text().splitlines() if "Alarm` |" in line
    ]
    assert sorted(rows) == sorted(ALARMS)


def test_every_parameter_is_documented() -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text()
    assert not [name for name in TEMPLATE["Parameters"] if f"| `{name}` |" not in page]


@pytest.mark.parametrize("kind", ["Parameters", "Outputs"])
def test_parameter_or_output_has_a_description(kind: str) -> None:
    assert all(each.get("Description") for each in TEMPLATE[kind].values())
