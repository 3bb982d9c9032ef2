"""Execution environments of functions, under AWS's runtime client.

The client gets its invocations from Lambda's Runtime API. Each execution environment has a Runtime API of its own:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import importlib.util
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# Modules of AWS's runtime. All others must come from the function and its layers.
_RUNTIME_MODULES = ("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py")


@dataclass(frozen=True, slots=True)
class DeployedFunction:
    """A deployed function: its configuration, and its unpacked code and layers."""

    name: str
    arn: str
    handler: str
    code_dir: Path
    layer_dirs: tuple[Path, ...]
    environment: Mapping[str, str]
    timeout_seconds: int


@dataclass(frozen=True, slots=True)
class InvocationResult:
    """The response of a function, or its error."""

    succeeded: bool
    payload: Any


class ExecutionEnvironment:
    """A process that runs the invocations of a function one at a time. Its output goes to the file descriptor `log`."""

    def __init__(self, function: DeployedFunction, runtime_dir: Path, log: int) -> None:
        self._timeout_seconds = function.timeout_seconds
        self._api = _RuntimeApi(function)
        threading.Thread(target=self._api.serve_forever, daemon=True).start()
        python_path = [*(str(each / "python") for each in function.layer_dirs), str(runtime_dir)]
        self._process = subprocess.Popen(  # noqa: S603 - our own function
            # -S: without this interpreter's site-packages, as on AWS.
            [sys.executable, "-S", "-m", "awslambdaric", function.handler],
            cwd=function.code_dir,
            env={
                **function.environment,
                "AWS_LAMBDA_FUNCTION_NAME": function.name,
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.server_port}",
                "LAMBDA_TASK_ROOT": str(function.code_dir),
                "PATH": os.defpath,
                "PYTHONPATH": os.pathsep.join(python_path),
                "TZ": ":UTC",
            },
            stdout=log,
            stderr=log,
        )

    @property
    def is_alive(self) -> bool:
        """True if the process runs and accepts another invocation."""
        return self._process.poll() is None

    def invoke(self, event: Mapping[str, Any], request_id: str) -> InvocationResult:
        """Invoke the function with an event. The process is killed on a timeout."""
        deadline = time.time() + self._timeout_seconds
        self._api.invocations.put(_Invocation(json.dumps(event).encode(), request_id, deadline))
        while time.time() < deadline:
            try:
                return self._api.results.get(timeout=0.05)
            except queue.Empty:
                if not self.is_alive and self._api.results.empty():
                    self.close()
                    return _failure(f"RequestId: {request_id} Error: Runtime ended with {self._process.returncode}")
        self.close()
        return _failure(f"RequestId: {request_id} Error: Task timed out after {self._timeout_seconds} seconds")

    def close(self) -> None:
        """Kill the process and stop its Runtime API."""
        self._process.kill()
        self._process.wait()
        self._api.invocations.put(None)
        self._api.shutdown()
        self._api.server_close()


def make_runtime_dir(folder: Path) -> Path:
    """Create a folder with links to the runtime's modules, unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _RUNTIME_MODULES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{name} is not installed. Run `make install`.")
        module = Path(spec.origin)
        source = module.parent if module.name == "__init__.py" else module
        link = folder / source.name
        if not link.exists():
            link.symlink_to(source)
    return folder


def _failure(error_message: str) -> InvocationResult:
    return InvocationResult(succeeded=False, payload={"errorMessage": error_message})


@dataclass(frozen=True, slots=True)
class _Invocation:
    event: bytes
    request_id: str
    deadline: float


class _RuntimeApi(ThreadingHTTPServer):
    def __init__(self, function: DeployedFunction) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.function_arn = function.arn
        self.invocations: queue.Queue[_Invocation | None] = queue.Queue()
        self.results: queue.Queue[InvocationResult] = queue.Queue()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's own types
        """Report the error, unless the runtime closed the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two packets: with Nagle's algorithm, the second one waits 40 ms for the first one's ACK.
    disable_nagle_algorithm = True
    server: _RuntimeApi

    def do_GET(self) -> None:
        """Wait for the next invocation and return it."""
        invocation = self.server.invocations.get()
        if invocation is None:
            self.close_connection = True
            return
        self.send_response(200)
        # The client crashes without these headers.
        self.send_header("Content-Type", "application/json")
        self.send_header("Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Sampled=0")
        self.send_header("Lambda-Runtime-Aws-Request-Id", invocation.request_id)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int(invocation.deadline * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", self.server.function_arn)
        self._finish(invocation.event)

    def do_POST(self) -> None:
        """Store the result: the response, an invocation error or an initialization error."""
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.results.put(InvocationResult(succeeded=self.path.endswith("/response"), payload=payload))
        self.send_response(202)
        self._finish(b"")

    def _finish(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no access log."""
