"""Tests of `billing webhooks listen`: the command as a process, with deliveries over real sockets."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import pytest

from billing.domain.outbound_events import OutboundEventType
from billing.domain.timestamps import iso
from billing.domain.webhook_endpoints import ENDPOINTS_MAX, WebhookEndpoint
from tests.cli.support import DeployedStack, RunBilling, json_error, json_output
from tests.cli.webhook_support import PUBLIC_URL, attempt, commit_event, webhooks_of
from tests.wire import Answer, Wire

pytestmark = pytest.mark.engine

BILLING = Path(sys.executable).parent / "billing"
DEADLINE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Listener:
    """A `billing webhooks listen` that has registered its endpoint."""

    process: subprocess.Popen[str]
    endpoint: WebhookEndpoint

    @property
    def stdout(self) -> IO[str]:
        """Standard output."""
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """End the process with a signal. Returns what it printed on standard error."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=DEADLINE_SECONDS)[1]


def environment_of(stack: DeployedStack) -> dict[str, str]:
    """Return the environment of a command on the stack, with Python's usual buffers."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return inherited | {"AWS_ENDPOINT_URL": stack.endpoint_url, "BILLING_STACK": stack.name}


@contextmanager
def listening(stack: DeployedStack, *words: str) -> Iterator[Listener]:
    """Run `billing webhooks listen`, and wait until it has registered its endpoint."""
    known = {each.id for each in endpoints_of(stack)}
    process = subprocess.Popen(  # noqa: S603 - our own command
        [BILLING, "webhooks", "listen", *words],
        env=environment_of(stack),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (new := [each for each in endpoints_of(stack) if each.id not in known]):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Listener(process, new[0])
    finally:
        process.kill()
        process.communicate()


def endpoints_of(stack: DeployedStack) -> tuple[WebhookEndpoint, ...]:
    """Return the endpoints of the deployment."""
    return webhooks_of(stack).load_endpoints(None).endpoints


# --- Events -----------------------------------------------------------------------------------------------------------


def test_listen_prints_one_line_for_each_event(loopback_stack: DeployedStack) -> None:
    paid = commit_event(loopback_stack)
    disabled = commit_event(loopback_stack, None, event_type=OutboundEventType.ENDPOINT_DISABLED)
    with listening(loopback_stack) as listener:
        assert listener.endpoint.events == ("*",)
        attempt(loopback_stack, listener.endpoint.id, [paid, disabled])
        lines = [listener.stdout.readline() for _ in range(2)]
        stderr = listener.end()
    assert lines == [
        f"{iso(paid.occurred_at)}  invoice.paid  acme  1  {paid.id}\n",
        f"{iso(disabled.occurred_at)}  webhook_endpoint.disabled  -  1  {disabled.id}\n",
    ]
    assert stderr == f"Listening as {listener.endpoint.id} until Ctrl-C.\n"
    deliveries = webhooks_of(loopback_stack).list_deliveries(listener.endpoint.id, 10).deliveries
    assert [each.status for each in deliveries] == ["delivered", "delivered"]


def test_listen_with_json_prints_one_object_for_each_event(loopback_stack: DeployedStack) -> None:
    event = commit_event(loopback_stack)
    with listening(loopback_stack, "--json", "--event", "invoice.paid") as listener:
        assert listener.endpoint.events == ("invoice.paid",)
        attempt(loopback_stack, listener.endpoint.id, [event])
        printed = json.loads(listener.stdout.readline())
        assert listener.end() == ""
    assert printed == {"event": event.body, "forwarded": None}


def test_listen_forwards_deliveries_and_prints_the_response(loopback_stack: DeployedStack, wire: Wire) -> None:
    """The receiver responds as the local server does, so that retries can be tested."""
    event = commit_event(loopback_stack)
    wire.answer(Answer(503, b"starting"))
    with listening(loopback_stack, "--forward-to", f"{wire.url}/my/hooks") as listener:
        attempt(loopback_stack, listener.endpoint.id, [event])
        line = listener.stdout.readline()
        listener.end()
    assert f"{event.id}  forwarded: 503 in " in line
    assert wire.only.path == "/my/hooks"
    assert json.loads(wire.only.body) == event.body
    [delivery] = webhooks_of(loopback_stack).list_deliveries(listener.endpoint.id, 10).deliveries
    assert (delivery.attempts[0].status_code, delivery.response_body) == (503, "starting")


def test_listen_rejects_unsigned_requests(loopback_stack: DeployedStack) -> None:
    with listening(loopback_stack) as listener:
        assert httpx.post(listener.endpoint.url, json={}, trust_env=False).status_code == 400
        stderr = listener.end()
    assert "Rejected a request: Missing required headers." in stderr
    assert "whsec_" not in stderr


# --- End --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_listen_signal_deletes_the_endpoint(loopback_stack: DeployedStack, number: signal.Signals) -> None:
    with listening(loopback_stack) as listener:
        assert "Traceback" not in listener.end(number)
    assert listener.process.returncode == 130
    assert endpoints_of(loopback_stack) == ()


def test_listen_after_kill_deletes_the_leftover(loopback_stack: DeployedStack, run_on_loopback: RunBilling) -> None:
    """Endpoints of others stay: of the deployment, and of a listener that runs."""
    kept = json_output(run_on_loopback("webhooks", "create", PUBLIC_URL, "--json"))["id"]
    named = json_output(
        run_on_loopback("webhooks", "create", PUBLIC_URL, "--description", "billing webhooks listen", "--json")
    )["id"]
    with listening(loopback_stack) as other, listening(loopback_stack) as killed:
        killed.process.kill()
        killed.process.wait()
        assert {each.id for each in endpoints_of(loopback_stack)} == {
            kept,
            named,
            other.endpoint.id,
            killed.endpoint.id,
        }
        with listening(loopback_stack) as second:
            ids = {each.id for each in endpoints_of(loopback_stack)}
            assert ids == {kept, named, other.endpoint.id, second.endpoint.id}
            stderr = second.end()
        assert f"Deleted {killed.endpoint.id} of a listener that was killed" in stderr
        assert f"process {killed.process.pid} on " in stderr


def test_listen_ends_if_its_output_is_closed(loopback_stack: DeployedStack) -> None:
    """As with `billing webhooks listen | head -1`."""
    event = commit_event(loopback_stack)
    with listening(loopback_stack) as listener:
        listener.stdout.close()
        attempt(loopback_stack, listener.endpoint.id, [event])
        assert listener.process.wait(DEADLINE_SECONDS) == 0
        assert listener.process.stderr is not None
        assert "Error" not in listener.process.stderr.read()
    assert endpoints_of(loopback_stack) == ()


def test_listen_if_its_endpoint_was_deleted_ends_without_error(
    loopback_stack: DeployedStack, run_on_loopback: RunBilling
) -> None:
    with listening(loopback_stack) as listener:
        json_output(run_on_loopback("webhooks", "delete", listener.endpoint.id, "--yes", "--json"))
        assert "Error" not in listener.end()
    assert listener.process.returncode == 130


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_listen_on_a_stack_without_loopback_fails_with_the_parameter(
    run_billing: RunBilling, stack: DeployedStack
) -> None:
    error = json_error(run_billing("webhooks", "listen", "--json"))
    assert error["code"] == "loopback_not_allowed"
    assert "AllowLoopbackWebhooks=true" in error["message"]
    assert endpoints_of(stack) == ()


def test_listen_beyond_the_maximum_of_endpoints_fails(run_on_loopback: RunBilling) -> None:
    for _ in range(ENDPOINTS_MAX):
        json_output(run_on_loopback("webhooks", "create", PUBLIC_URL, "--json"))
    assert json_error(run_on_loopback("webhooks", "listen", "--json"))["code"] == "webhook_refused"


@pytest.mark.parametrize("url", ["http://192.168.0.7:3000/hooks", "3000", "http://127.0.0.1:80/"])
def test_listen_with_forward_url_on_another_machine_fails(loopback_stack: DeployedStack, url: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [BILLING, "webhooks", "listen", "--forward-to", url, "--json"],
        env=environment_of(loopback_stack),
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"]) == (1, "forward_url_refused")
    assert "http://127.0.0.1:3000/webhooks" in error["message"]
    assert endpoints_of(loopback_stack) == ()
