"""What keeps a command from doing its work, in one line that says what to do about it.

Nothing here knows Stripe's SDK, which takes long to import: its errors are put into words in cli.stripe_account.
"""

from typing import NoReturn

from botocore import exceptions as aws
from botocore.exceptions import BotoCoreError, ClientError

from billing.domain.errors import StoreUnavailable


class CommandFailed(Exception):
    """A command that could not do its work. `code` is for programs, `message` for the operator."""

    def __init__(self, code: str, message: str) -> None:
        """Take one line that says what to do."""
        self.code = code
        self.message = message
        super().__init__(message)


NO_CREDENTIALS = CommandFailed(
    "aws_credentials",
    "AWS did not accept the credentials: sign in with `aws sso login` or `aws configure`, or choose AWS_PROFILE.",
)
THROTTLED = CommandFailed("aws_throttled", "AWS is limiting the rate of calls: try again in a minute.")

# Most specific first.
OF_TYPE: tuple[tuple[type[BotoCoreError], CommandFailed], ...] = (
    (aws.NoRegionError, CommandFailed("aws_region", "No AWS region is set: use --region or AWS_DEFAULT_REGION.")),
    (aws.NoCredentialsError, NO_CREDENTIALS),
    (aws.PartialCredentialsError, NO_CREDENTIALS),
    (aws.CredentialRetrievalError, NO_CREDENTIALS),
    (aws.TokenRetrievalError, NO_CREDENTIALS),
    (aws.SSOError, NO_CREDENTIALS),
)

OF_CODE = {
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


def explain_aws(error: BotoCoreError | ClientError) -> CommandFailed:
    """An error of botocore, in the operator's words."""
    if isinstance(error, ClientError):
        return _explain_answer(error)
    if isinstance(error, aws.HTTPClientError | aws.ConnectionError):
        message = f"AWS cannot be reached: check the network, the region and AWS_ENDPOINT_URL. ({_one_line(error)})"
        return CommandFailed("aws_unreachable", message)
    known = next((failure for kind, failure in OF_TYPE if isinstance(error, kind)), None)
    return known or CommandFailed("aws_configuration", f"AWS cannot be used as it is configured: {_one_line(error)}")


def explain_store(error: StoreUnavailable) -> CommandFailed:
    """The store's error, in the words of what AWS said to it."""
    if isinstance(error.__cause__, BotoCoreError | ClientError):
        return explain_aws(error.__cause__)
    return THROTTLED


def _explain_answer(error: ClientError) -> CommandFailed:
    code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code in ACCESS_DENIED:
        message = f"AWS refused {error.operation_name}: these credentials need permission for it. ({_one_line(said)})"
        return CommandFailed("aws_access_denied", message)
    return OF_CODE.get(code) or CommandFailed(
        "aws_refused", f"AWS refused {error.operation_name} with {code}: {_one_line(said)}"
    )


def refuse(code: str, message: str) -> NoReturn:
    """Raise CommandFailed."""
    raise CommandFailed(code, message)


def _one_line(said: object) -> str:
    return " ".join(str(said).split())
