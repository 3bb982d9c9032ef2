"""Errors of the `billing` command. Each is one line that says what is wrong and what to do.

docs/reference/errors.md lists the codes. This module does not import Stripe's SDK, which takes long to load:
`cli.stripe_connection` maps the SDK's errors.
"""

from botocore import exceptions as aws
from botocore.exceptions import BotoCoreError, ClientError

from billing.domain.errors import QueueUnavailable, StoreUnavailable


class CommandFailed(Exception):
    """Failure of a command.

    Attributes:
        code: Stable code for programs.
        message: One line for the operator.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


NO_CREDENTIALS = CommandFailed(
    "aws_credentials",
    "AWS did not accept the credentials: sign in with `aws sso login` or `aws configure`, or set AWS_PROFILE.",
)
THROTTLED = CommandFailed("aws_throttled", "AWS is limiting the rate of calls: try again in a minute.")

# Subclasses before their base classes.
ERROR_OF_TYPE: tuple[tuple[type[BotoCoreError], CommandFailed], ...] = (
    (aws.NoRegionError, CommandFailed("aws_region", "No AWS region is set: use --region or AWS_DEFAULT_REGION.")),
    (aws.NoCredentialsError, NO_CREDENTIALS),
    (aws.PartialCredentialsError, NO_CREDENTIALS),
    (aws.CredentialRetrievalError, NO_CREDENTIALS),
    (aws.TokenRetrievalError, NO_CREDENTIALS),
    (aws.SSOError, NO_CREDENTIALS),
)

ERROR_OF_CODE = {
    "ExpiredToken": NO_CREDENTIALS,
    "ExpiredTokenException": NO_CREDENTIALS,
    "InvalidClientTokenId": NO_CREDENTIALS,
    "InvalidSignatureException": NO_CREDENTIALS,
    "SignatureDoesNotMatch": NO_CREDENTIALS,
    "UnrecognizedClientException": NO_CREDENTIALS,
    "Throttling": THROTTLED,
    "ThrottlingException": THROTTLED,
}

ACCESS_DENIED = frozenset({"AccessDenied", "AccessDeniedException"})


def map_aws_error(error: BotoCoreError | ClientError) -> CommandFailed:
    """Return the command's error for an error of botocore."""
    if isinstance(error, ClientError):
        return _map_response(error)
    if isinstance(error, aws.HTTPClientError | aws.ConnectionError):
        message = f"AWS cannot be reached: check the network, the region and AWS_ENDPOINT_URL. ({_one_line(error)})"
        return CommandFailed("aws_unreachable", message)
    known = next((failure for kind, failure in ERROR_OF_TYPE if isinstance(error, kind)), None)
    return known or CommandFailed(
        "aws_configuration", f"The AWS configuration is invalid: check ~/.aws/config. ({_one_line(error)})"
    )


def map_service_error(error: StoreUnavailable | QueueUnavailable) -> CommandFailed:
    """Return the command's error for an error of the table or of a queue."""
    if isinstance(error.__cause__, BotoCoreError | ClientError):
        return map_aws_error(error.__cause__)
    return THROTTLED


def _map_response(error: ClientError) -> CommandFailed:
    code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code in ACCESS_DENIED:
        message = f"AWS denied {error.operation_name}: grant this permission to the credentials. ({_one_line(text)})"
        return CommandFailed("aws_access_denied", message)
    return ERROR_OF_CODE.get(code) or CommandFailed(
        "aws_refused", f"AWS rejected {error.operation_name} with {code}: {_one_line(text)}"
    )


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
