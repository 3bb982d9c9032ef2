"""One invocation of a built function under AWS's own runtime client.

The client takes its work from Lambda's Runtime API, so this serves that API for a single event:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import importlib.util
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# What AWS's runtime brings along; everything else must come from the function and its layers.
_RUNTIME_MODULES = ("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py")


@dataclass(frozen=True, slots=True)
class BuiltFunction:
    """A function as `sam build` left it, and as the deployed stack configures it."""

    name: str
    arn: str
    handler: str
    code_dir: Path
    layer_dirs: tuple[Path, ...]
    environment: Mapping[str, str]
    timeout_seconds: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a function answered, or the error it ended with."""

    succeeded: bool
    payload: Any


def invoke(function: BuiltFunction, event: Mapping[str, Any]) -> Result:
    """Run the function once; what it logs goes to standard error."""
    with _runtime_api(function, event) as (address, results), _runtime_dir() as runtime_dir:
        python_path = [*(str(each / "python") for each in function.layer_dirs), runtime_dir]
        process = subprocess.Popen(  # noqa: S603 - our own function
            # -S: nothing of this interpreter's site-packages, as on AWS.
            [sys.executable, "-S", "-m", "awslambdaric", function.handler],
            cwd=function.code_dir,
            env={
                **function.environment,
                "AWS_LAMBDA_FUNCTION_NAME": function.name,
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_RUNTIME_API": address,
                "LAMBDA_TASK_ROOT": str(function.code_dir),
                "PATH": os.defpath,
                "PYTHONPATH": os.pathsep.join(python_path),
                "TZ": ":UTC",
            },
            stdout=sys.stderr,
        )
        try:
            return _await_result(process, results, function.timeout_seconds)
        finally:
            process.kill()
            process.wait()


def _await_result(process: subprocess.Popen[bytes], results: "queue.Queue[Result]", timeout_seconds: int) -> Result:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        try:
            return results.get(timeout=0.05)
        except queue.Empty:
            if process.poll() is not None and results.empty():
                return Result(succeeded=False, payload={"errorMessage": f"The runtime ended with {process.returncode}"})
    return Result(succeeded=False, payload={"errorMessage": f"Task timed out after {timeout_seconds} seconds"})


@contextmanager
def _runtime_dir() -> Iterator[str]:
    """A folder with the runtime's own modules and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        for name in _RUNTIME_MODULES:
            found = importlib.util.find_spec(name)
            if found is None or found.origin is None:
                raise ModuleNotFoundError(f"{name} is not installed: run `make install`")
            module = Path(found.origin)
            source = module.parent if module.name == "__init__.py" else module
            (Path(folder) / source.name).symlink_to(source)
        yield folder


@contextmanager
def _runtime_api(function: BuiltFunction, event: Mapping[str, Any]) -> Iterator[tuple[str, "queue.Queue[Result]"]]:
    """Serve the Runtime API for one event; yields its address and where results arrive."""
    server = _Server(function, json.dumps(event).encode())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", server.results
    finally:
        server.events.put(None)
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, function: BuiltFunction, event: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.function = function
        self.results: queue.Queue[Result] = queue.Queue()
        self.events: queue.Queue[bytes | None] = queue.Queue()
        self.events.put(event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Hand out the event; asked for another one, wait until there is nobody to ask."""
        if (payload := self.server.events.get()) is None:
            self.close_connection = True
            return
        function = self.server.function
        self.send_response(200)
        # The client crashes where AWS's headers are missing.
        self.send_header("Content-Type", "application/json")
        self.send_header("Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Sampled=0")
        self.send_header("Lambda-Runtime-Aws-Request-Id", str(uuid.uuid4()))
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + function.timeout_seconds) * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", function.arn)
        self._finish(payload)

    def do_POST(self) -> None:
        """Take the result: an error of the invocation or of the start, or the response."""
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.results.put(Result(succeeded=self.path.endswith("/response"), payload=payload))
        self.send_response(202)
        self._finish(b"")

    def _finish(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the function's own log is what matters."""
