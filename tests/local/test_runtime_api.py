"""Runtime API of the local environment."""

import socket
import struct
from pathlib import Path

import pytest

from local.runtime_api import DeployedFunction, _RuntimeApi

FUNCTION = DeployedFunction("name", "arn:aws:lambda:::function:name", "app.handler", Path(), (), {}, 1)
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


def test_runtime_api_connection_reset_is_not_reported(capfd: pytest.CaptureFixture[str]) -> None:
    with _RuntimeApi(FUNCTION) as api:
        with socket.create_connection(("127.0.0.1", api.server_port)) as runtime:
            request, address = api.get_request()
            runtime.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        api.process_request_thread(request, address)
    assert capfd.readouterr().err == ""


def test_runtime_api_malformed_request_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    with _RuntimeApi(FUNCTION) as api:
        with socket.create_connection(("127.0.0.1", api.server_port)) as runtime:
            request, address = api.get_request()
            runtime.sendall(b"POST /response HTTP/1.1\r\nContent-Length: 1\r\n\r\n{")
        api.process_request_thread(request, address)
    assert "JSONDecodeError" in capfd.readouterr().err
