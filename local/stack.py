"""The deployed stack: building it, deploying it to the emulator, and reading back what CloudFormation made of it."""

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
from local.runtime_api import Function

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackTypeDef

ROOT = Path(__file__).parents[1]
STACK = "serverless-billing-local"
# Kept from run to run: sam build then only looks for what has changed.
BUILD_DIR = ROOT / ".aws-sam/local/build"
SAM = ROOT / ".tools/sam/bin/sam"

_ARCHITECTURES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


class Aws(TypedDict):
    """Which AWS a client talks to, as boto3 takes it."""

    endpoint_url: str
    region_name: str
    aws_access_key_id: str
    aws_secret_access_key: str


def aws(env: Mapping[str, str]) -> Aws:
    """The AWS of an environment: a world's, a run.env file's or the process's own."""
    return Aws(
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_DEFAULT_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


def architecture() -> str:
    """This machine's processor as Lambda names it: the layers hold compiled code."""
    return _ARCHITECTURES[platform.machine()]


def build_command() -> list[str]:
    """`sam build` for this machine."""
    return [
        *(str(SAM), "build", "--cached", "--parallel"),
        *("--template-file", str(ROOT / "template.yaml")),
        *("--build-dir", str(BUILD_DIR)),
        *("--cache-dir", str(BUILD_DIR.parent / "cache")),
        *("--parameter-overrides", f"Architecture={architecture()}"),
    ]


def is_built() -> bool:
    """Whether nothing has changed since the last `sam build`, which takes its time to find that out."""
    built = BUILD_DIR / "template.yaml"
    if not built.exists():
        return False
    # Folders too: from one that is newer a file may have gone.
    sources = [ROOT / "template.yaml", *(ROOT / "functions").rglob("*"), *(ROOT / "layers").rglob("*")]
    newest = max(source.stat().st_mtime for source in sources if "__pycache__" not in source.parts)
    return newest < built.stat().st_mtime


def deploy_command(parameters: Mapping[str, str]) -> list[str]:
    """`sam deploy` of what was built, with these parameters of the template."""
    return [
        *(str(SAM), "deploy", "--resolve-s3", "--no-confirm-changeset", "--no-progressbar"),
        *("--template-file", str(BUILD_DIR / "template.yaml")),
        *("--stack-name", STACK),
        *("--capabilities", "CAPABILITY_IAM"),
        *("--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())),
    ]


def outputs(env: Mapping[str, str], stack_name: str) -> dict[str, str]:
    """The stack's outputs by key."""
    described = _describe(_cloudformation(env), stack_name)
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def function_names(env: Mapping[str, str], stack_name: str) -> dict[str, str]:
    """The deployed functions' names by their logical ids."""
    pages = _cloudformation(env).get_paginator("list_stack_resources").paginate(StackName=stack_name)
    return {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for page in pages
        for resource in page["StackResourceSummaries"]
        if resource["ResourceType"] == "AWS::Lambda::Function"
    }


def fetch_function(env: Mapping[str, str], function_name: str, folder: Path) -> Function:
    """A deployed function, its code and layers as Lambda has them, unpacked below `folder` unless they are already."""
    client = boto3.client("lambda", **aws(env))
    deployed = client.get_function(FunctionName=function_name)
    configuration = deployed["Configuration"]
    layers = [layer["Arn"] for layer in configuration.get("Layers", ())]
    return Function(
        name=function_name,
        arn=configuration["FunctionArn"],
        handler=configuration["Handler"],
        code_dir=_unpacked(deployed["Code"]["Location"], folder / function_name),
        layer_dirs=tuple(
            _unpacked(
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


def _unpacked(location: str, folder: Path) -> Path:
    if not folder.exists():
        archive = httpx.get(location, trust_env=False, timeout=30).raise_for_status().content
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            unfinished = Path(scratch) / folder.name
            zipfile.ZipFile(io.BytesIO(archive)).extractall(unfinished)
            unfinished.rename(folder)
    return folder


def webhook_secret(env: Mapping[str, str], stack_name: str) -> str:
    """The newest webhook secret that `billing setup` stored."""
    secrets = boto3.client("secretsmanager", **aws(env))
    stored = secrets.get_secret_value(SecretId=outputs(env, stack_name)["StripeSecretArn"])["SecretString"]
    return str(json.loads(stored)["webhook_secrets"][0])


def delete(env: Mapping[str, str], stack_name: str) -> None:
    """Delete what an earlier run left in an emulator; nothing happens where there is no such stack."""
    cloudformation = _cloudformation(env)
    cloudformation.delete_stack(StackName=stack_name)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack_name, WaiterConfig={"Delay": 1})


def read_api(env: Mapping[str, str], stack_name: str, domain_name: str) -> gateway.Api:
    """The HTTP API of a deployed stack, out of the processed template."""
    cloudformation = _cloudformation(env)
    answer = cloudformation.get_template(StackName=stack_name, TemplateStage="Processed")
    [definition] = [
        resource["Properties"]["Body"]
        for resource in answer["TemplateBody"]["Resources"].values()
        if resource["Type"] == "AWS::ApiGatewayV2::Api"
    ]
    stack = _describe(cloudformation, stack_name)
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}
    return gateway.Api(
        api_id="local",
        domain_name=domain_name,
        account_id=stack["StackId"].split(":")[4],
        routes=gateway.read_routes(definition, function_names(env, stack_name)),
        # The emulator runs the SAM transform with the parameters' defaults, so the origins come from the stack itself.
        cors=gateway.read_cors(definition, origins=parameters["AllowedOrigins"].split(",")),
    )


def _cloudformation(env: Mapping[str, str]) -> "CloudFormationClient":
    return boto3.client("cloudformation", **aws(env))


def _describe(cloudformation: "CloudFormationClient", stack_name: str) -> "StackTypeDef":
    return cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
