"""Simulator as a process: ``python -m stripe_simulator``."""
# ruff: noqa: S603 - the tests run only the simulator

import signal
import socket
import subprocess
import sys

import httpx

COMMAND = [sys.executable, "-m", "stripe_simulator"]


def test_command_prints_url_checks_key_and_stops_on_sigint() -> None:
    command = [*COMMAND, "--port", "0", "--api-key", "sk_test_only", "--seed", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        statuses = [
            httpx.get(f"{url}/v1/prices", headers={"Authorization": f"Bearer {key}"}, trust_env=False).status_code
            for key in ("sk_test_only", "sk_test_other")
        ]
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)

    assert statuses == [200, 401]
    assert stderr == ""


def test_command_with_port_in_use_exits_with_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        result = subprocess.run(
            [*COMMAND, "--port", str(port)], capture_output=True, text=True, check=False, timeout=30
        )

    assert result.returncode == 1
    assert result.stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"
