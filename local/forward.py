"""Forward TCP ports of one address to the same ports of this machine's loopback interface.

The services of the local environment listen on 127.0.0.1 only, which containers cannot reach.
`python -m local.forward 172.17.0.1 8001 4566` exposes two of their ports until it is stopped.
"""

import argparse
import asyncio
from contextlib import suppress

_CHUNK_BYTES = 65_536


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await source.read(_CHUNK_BYTES):
            target.write(chunk)
            await target.drain()
    target.close()


async def _forward(address: str, port: int) -> None:
    async def handle_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            local_reader, local_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, local_writer), _copy(local_reader, writer))

    server = await asyncio.start_server(handle_connection, address, port)
    await server.serve_forever()


async def _forward_all(address: str, ports: list[int]) -> None:
    await asyncio.gather(*(_forward(address, port) for port in ports))


def main() -> None:
    """Forward until the process is stopped."""
    parser = argparse.ArgumentParser(prog="python -m local.forward", description="Expose loopback ports on an address.")
    parser.add_argument("address")
    parser.add_argument("port", type=int, nargs="+")
    arguments = parser.parse_args()
    asyncio.run(_forward_all(arguments.address, arguments.port))


if __name__ == "__main__":
    main()
