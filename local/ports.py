"""TCP ports of this machine."""

import socket

from local.processes import StartFailed

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_listening(port: int, address: str = LOOPBACK) -> bool:
    """Return True if the port accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def require_free(variable: str, port: int) -> None:
    """Check that a server can listen on the port. Raises StartFailed with the variable that changes the port."""
    with socket.socket() as probe:
        # Servers set this option. Without it, closing connections of the previous run occupy the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            hint = f"Choose another port with {variable}, as in `{variable}={port + 100} make run`"
            raise StartFailed(f"Port {port} is not available: {error.strerror}. {hint}.") from error
