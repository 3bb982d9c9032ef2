"""The stack on the AWS emulator: build and deploy commands, and queries of the deployed resources."""

import io
import json
import platform
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import boto3
import httpx

from local import gateway
from local.runtime_api import DeployedFunction

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackTypeDef

ROOT = Path(__file__).parents[1]
STACK = "serverless-billing-local"
# Kept between runs: sam build then builds only changed parts.
BUILD_DIR = ROOT / ".aws-sam/local/build"
SAM = ROOT / ".tools/sam/bin/sam"

_ARCHITECTURES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


class ClientOptions(TypedDict):
    """Keyword arguments of a boto3 client."""

    endpoint_url: str
    region_name: str
    aws_access_key_id: str
    aws_secret_access_key: str


def client_options(env: Mapping[str, str]) -> ClientOptions:
    """Return the boto3 options for the AWS endpoint of environment variables."""
    return ClientOptions(
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_DEFAULT_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


def architecture() -> str:
    """Return Lambda's name of this machine's architecture. The layers contain compiled code for it."""
    return _ARCHITECTURES[platform.machine()]


def build_command() -> list[str]:
    """Return the `sam build` command for this machine's architecture."""
    return [
        *(str(SAM), "build", "--cached", "--parallel"),
        *("--template-file", str(ROOT / "template.yaml")),
        *("--build-dir", str(BUILD_DIR)),
        *("--cache-dir", str(BUILD_DIR.parent / "cache")),
        *("--parameter-overrides", f"Architecture={architecture()}"),
    ]


def is_built() -> bool:
    """Return True if no source is newer than the last `sam build`. This check is faster than `sam build`."""
    built = BUILD_DIR / "template.yaml"
    if not built.exists():
        return False
    # Folders are included: deleting a file changes only its folder.
    sources = [ROOT / "template.yaml", *(ROOT / "functions").rglob("*"), *(ROOT / "layers").rglob("*")]
    newest = max(source.stat().st_mtime for source in sources if "__pycache__" not in source.parts)
    return newest < built.stat().st_mtime


def deploy_command(parameters: Mapping[str, str]) -> list[str]:
    """Return the `sam deploy` command for the built template with these parameters."""
    return [
        *(str(SAM), "deploy", "--resolve-s3", "--no-confirm-changeset", "--no-progressbar"),
        *("--template-file", str(BUILD_DIR / "template.yaml")),
        *("--stack-name", STACK),
        *("--capabilities", "CAPABILITY_IAM"),
        *("--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())),
    ]


def outputs(env: Mapping[str, str], stack_name: str) -> dict[str, str]:
    """Return the stack's outputs by key."""
    described = _describe(_cloudformation(env), stack_name)
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def function_names(env: Mapping[str, str], stack_name: str) -> dict[str, str]:
    """Return the names of the deployed functions by logical id."""
    pages = _cloudformation(env).get_paginator("list_stack_resources").paginate(StackName=stack_name)
    return {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for page in pages
        for resource in page["StackResourceSummaries"]
        if resource["ResourceType"] == "AWS::Lambda::Function"
    }


def fetch_function(env: Mapping[str, str], function_name: str, folder: Path) -> DeployedFunction:
    """Return a deployed function. Download and unpack its code and layers below `folder`, unless they exist."""
    client = boto3.client("lambda", **client_options(env))
    deployed = client.get_function(FunctionName=function_name)
    configuration = deployed["Configuration"]
    layers = [layer["Arn"] for layer in configuration.get("Layers", ())]
    return DeployedFunction(
        name=function_name,
        arn=configuration["FunctionArn"],
        handler=configuration["Handler"],
        code_dir=_unpack(deployed["Code"]["Location"], folder / function_name),
        layer_dirs=tuple(
            _unpack(
                client.get_layer_version_by_arn(Arn=arn)["Content"]["Location"], folder / "-".join(arn.split(":")[-2:])
            )
            for arn in layers
        ),
        environment={
            **configuration["Environment"]["Variables"],
            **{name: value for name, value in env.items() if name.startswith("AWS_")},
        },
        timeout_seconds=configuration["Timeout"],
    )


def _unpack(location: str, folder: Path) -> Path:
    if not folder.exists():
        archive = httpx.get(location, trust_env=False, timeout=30).raise_for_status().content
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            unfinished = Path(scratch) / folder.name
            zipfile.ZipFile(io.BytesIO(archive)).extractall(unfinished)
            unfinished.rename(folder)
    return folder


def webhook_secret(env: Mapping[str, str], stack_name: str) -> str:
    """Return the newest webhook secret that `billing setup` stored."""
    secrets = boto3.client("secretsmanager", **client_options(env))
    stored = secrets.get_secret_value(SecretId=outputs(env, stack_name)["StripeSecretArn"])["SecretString"]
    return str(json.loads(stored)["webhook_secrets"][0])


def delete(env: Mapping[str, str], stack_name: str) -> None:
    """Delete the stack of an earlier run. Does nothing if there is none."""
    cloudformation = _cloudformation(env)
    cloudformation.delete_stack(StackName=stack_name)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack_name, WaiterConfig={"Delay": 1})


def read_api(env: Mapping[str, str], stack_name: str, domain_name: str) -> gateway.DeployedApi:
    """Return the HTTP API of a deployed stack, read from the processed template."""
    cloudformation = _cloudformation(env)
    answer = cloudformation.get_template(StackName=stack_name, TemplateStage="Processed")
    [definition] = [
        resource["Properties"]["Body"]
        for resource in answer["TemplateBody"]["Resources"].values()
        if resource["Type"] == "AWS::ApiGatewayV2::Api"
    ]
    stack = _describe(cloudformation, stack_name)
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}
    return gateway.DeployedApi(
        api_id="local",
        domain_name=domain_name,
        account_id=stack["StackId"].split(":")[4],
        routes=gateway.read_routes(definition, function_names(env, stack_name)),
        # The emulator runs the SAM transform with default parameters. The stack has the actual origins.
        cors=gateway.read_cors(definition, origins=parameters["AllowedOrigins"].split(",")),
    )


def _cloudformation(env: Mapping[str, str]) -> "CloudFormationClient":
    return boto3.client("cloudformation", **client_options(env))


def _describe(cloudformation: "CloudFormationClient", stack_name: str) -> "StackTypeDef":
    return cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
