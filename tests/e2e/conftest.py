"""One local environment for all end-to-end tests, and a new account per test."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from billing.settings import RATE_LIMIT_MAX
from local.environment import EnvironmentConfig, LocalEnvironment, running_environment
from local.ports import free_port
from tests.e2e.support import CLIENT, DEADLINE_SECONDS, AccountClient, StripeClient, billing, run_command

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEnvironment]:
    """The environment of `make run`, on free ports."""
    config = EnvironmentConfig(
        tmp_path_factory.mktemp("environment"),
        port=free_port(),
        stripe_port=free_port(),
        # A test asks ten times a second until something has happened.
        rate_limit_per_minute=RATE_LIMIT_MAX,
        rate_limit_per_hour=RATE_LIMIT_MAX,
    )
    with running_environment(config) as running:
        yield running


@pytest.fixture
def new_account(environment: LocalEnvironment) -> Iterator[Callable[[], AccountClient]]:
    """Make accounts as an operator would, each with a key."""
    clients: list[httpx.Client] = []

    def make() -> AccountClient:
        account_id = f"account-{secrets.token_hex(4)}"
        billing(environment, "accounts", "create", account_id, "--email", f"{account_id}@example.com")
        key = billing(environment, "keys", "create", account_id)["key"]
        headers = {"Authorization": f"Bearer {key}"}
        clients.append(
            httpx.Client(base_url=environment.api_url, headers=headers, timeout=DEADLINE_SECONDS, trust_env=False)
        )
        return AccountClient(account_id, clients[-1])

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def account(new_account: Callable[[], AccountClient]) -> AccountClient:
    """A new account."""
    return new_account()


@pytest.fixture
def stripe_client(environment: LocalEnvironment) -> Iterator[StripeClient]:
    """Stripe behind this environment."""
    headers = {"Authorization": f"Bearer {environment.env['STRIPE_API_KEY']}"}
    with httpx.Client(
        base_url=environment.stripe_url, headers=headers, timeout=DEADLINE_SECONDS, trust_env=False
    ) as http:
        yield StripeClient(http)


@pytest.fixture(scope="session")
def client_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which npm installed the TypeScript client's package."""
    folder = tmp_path_factory.mktemp("front-end")
    run_command(CLIENT, "npm", "pack", "--silent", "--pack-destination", str(folder))
    (package,) = folder.glob("*.tgz")
    run_command(folder, "npm", "install", "--silent", "--offline", "--no-save", str(package))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Playwright keeps an event loop running, so no test of the same module can call asyncio.run."""
    with sync_playwright() as playwright:
        # In a container, and as root, Chromium cannot create its sandbox.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A browser page. The front end at localhost:3000 answers every request with one word."""

    def greet(route: Route) -> None:
        route.fulfill(body="Welcome", content_type="text/plain")

    page = browser.new_page()
    page.route("http://localhost:3000/**", greet)
    yield page
    page.close()
