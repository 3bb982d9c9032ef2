"""The simulator as a process."""
# ruff: noqa: S603 - it starts only itself

import signal
import socket
import subprocess
import sys

import httpx

COMMAND = [sys.executable, "-m", "stripe_simulator"]


def test_it_serves_until_interrupted() -> None:
    """It must say where it is, accept only its key, and end cleanly."""
    command = [*COMMAND, "--port", "0", "--api-key", "sk_test_only", "--seed", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        statuses = [
            httpx.get(f"{url}/v1/prices", headers={"Authorization": f"Bearer {key}"}, trust_env=False).status_code
            for key in ("sk_test_only", "sk_test_other")
        ]
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=10)

    assert statuses == [200, 401]
    assert complaints == ""


def test_a_taken_port_is_a_clear_failure() -> None:
    """It must name the address and exit with 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [*COMMAND, "--port", str(port)], capture_output=True, text=True, check=False, timeout=30
        )

    assert result.returncode == 1
    assert result.stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"
