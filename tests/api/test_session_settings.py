"""Session settings: environment variables and stored secrets of a deployment."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest

from billing.adapters import aws
from billing.adapters.repository import Repository
from billing.adapters.secrets import read_session_secrets
from billing.api.authentication import Authenticator
from billing.bootstrap import app
from billing.domain.errors import ConfigurationMissing, Unauthenticated
from billing.settings import SessionSettings
from local.stack import ROOT
from tests.api.tokens import ACME, NOW, OLD_SECRET, SECONDS, SECRET, SETTINGS, sign_token


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The required variables, in an application without any cached setting."""
    monkeypatch.setenv("TABLE_NAME", "billing")
    monkeypatch.setenv("DEPLOYMENT_ID", "billing-test")
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://app.example.com")
    app.reset()
    yield monkeypatch
    app.reset()


class SecretsManager:
    """Secrets Manager with one secret; `calls` are the ids of the secrets read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.calls: list[str] = []

    def get_secret_value(self, **request: Any) -> dict[str, str]:
        self.calls.append(request["SecretId"])
        return {"SecretString": self.text}


def test_session_tokens_are_rejected_if_no_issuer_is_configured(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SESSION_JWKS_URL", "https://login.example.com/jwks.json")
    environment.setenv("SESSION_ISSUER", "")
    assert app.session_tokens is None
    with pytest.raises(Unauthenticated):
        Authenticator(cast(Repository, None), app.session_tokens).authenticate(f"Bearer {sign_token()}", NOW)


def test_every_session_parameter_reaches_its_setting(environment: pytest.MonkeyPatch) -> None:
    """The shared secrets are read once."""
    stored = SecretsManager(json.dumps({"shared_secrets": [SECRET, OLD_SECRET]}))
    environment.setattr(aws, "client", lambda _service: stored)
    for name, value in {
        "SESSION_ISSUER": "https://login.example.com",
        "SESSION_AUDIENCE": "billing",
        "SESSION_JWKS_URL": "",
        "SESSION_ACCOUNT_CLAIM": "org.id",
        "SESSION_ROLE_CLAIM": "role",
        "PAYING_ROLES": "owner, billing,",
        "SESSION_SECRET_ID": "arn:session",
    }.items():
        environment.setenv(name, value)
    assert app.settings.session == SETTINGS
    authenticator = Authenticator(cast(Repository, None), app.session_tokens)
    assert [authenticator.authenticate(f"Bearer {sign_token()}", NOW) for _ in range(3)] == [ACME] * 3
    assert stored.calls == ["arn:session"]


def test_session_settings_have_defaults_if_only_an_issuer_is_configured(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SESSION_ISSUER", "https://login.example.com")
    expected = SessionSettings("https://login.example.com", None, None, "", "account_id", None, frozenset())
    assert app.settings.session == expected
    assert app.session_tokens
    assert tuple(app.session_tokens.shared_secrets()) == ()


@pytest.mark.parametrize("value", [None, {"shared_secrets": SECRET}, {"shared_secrets": None}, {"shared_secrets": [5]}])
def test_stored_secret_that_is_not_a_list_of_strings_is_a_configuration_error(value: dict[str, object] | None) -> None:
    with pytest.raises(ConfigurationMissing, match="shared_secrets"):
        read_session_secrets(value)


def test_shared_secret_under_32_bytes_is_a_configuration_error() -> None:
    """RFC 7518, section 3.2. The message does not contain the secret."""
    with pytest.raises(ConfigurationMissing, match="32 bytes") as missing:
        read_session_secrets({"shared_secrets": [SECRET, "guess-me"]})
    assert "guess-me" not in str(missing.value)
    assert read_session_secrets({}) == ()


CHECK_AND_LIST_IMPORTS = """
import json, sys
from datetime import UTC, datetime
from billing.api.session_tokens import LENGTH_MAX, SessionTokens
from billing.settings import SessionSettings
settings = SessionSettings("https://login.example.com", "billing", None, "", "org.id", "role", frozenset({"owner"}))
tokens = SessionTokens(settings, lambda: ("s" * 32,), None)
print(tokens.check(sys.argv[1], datetime.fromtimestamp(int(sys.argv[2]), UTC)).account_id)
print(json.dumps(sorted(sys.modules)))
"""


def test_hs256_check_imports_the_standard_library_only() -> None:
    """Cryptography would be a fifth of a cold start."""
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", CHECK_AND_LIST_IMPORTS, sign_token(), str(SECONDS)],
        env={"PYTHONPATH": str(ROOT / "layers/billing")},
        capture_output=True,
        text=True,
        check=True,
    )
    account_id, modules = done.stdout.splitlines()
    assert account_id == "acme"
    assert not {"cryptography", "jwt", "pydantic", "boto3", "stripe"} & set(json.loads(modules))
