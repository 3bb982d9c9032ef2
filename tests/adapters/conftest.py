"""What several adapters' tests stand on."""

import io
import shutil
from collections.abc import Callable, Iterator

import pytest

from billing.telemetry import logger
from local.stack import ROOT
from tests.adapters.wire import Wire, open_wire

STRIPE_MOCK = shutil.which("stripe-mock", path=ROOT / ".tools/go/bin") or shutil.which("stripe-mock")
collect_ignore = [] if STRIPE_MOCK else ["test_stripe_mock.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so where nothing judged the requests: it takes Go to install stripe-mock."""
    if STRIPE_MOCK is None:
        terminalreporter.write_line("stripe-mock is not installed: requests to Stripe were not judged by it")


@pytest.fixture(scope="session")
def _server() -> Iterator[Wire]:
    with open_wire() as wire:
        yield wire


@pytest.fixture
def wire(_server: Wire) -> Iterator[Wire]:
    """The other end of an HTTP client, with nothing recorded."""
    _server.reset()
    yield _server
    _server.hang_up()


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """All that the product wrote: its log, standard output and standard error."""
    log = io.StringIO()
    [handler] = logger().handlers
    monkeypatch.setattr(handler, "stream", log)

    def read() -> str:
        captured = capsys.readouterr()
        return log.getvalue() + captured.out + captured.err

    return read
