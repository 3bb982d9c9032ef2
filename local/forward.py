"""Forward TCP ports of one address to the same ports of this machine's loopback interface.

A container cannot reach what listens on 127.0.0.1 of its host, and nothing of the local world listens elsewhere:
`python -m local.forward 172.17.0.1 8001 4566` lends it those ports for as long as it runs.
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
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))

    server = await asyncio.start_server(connected, address, port)
    await server.serve_forever()


async def _forward_all(address: str, ports: list[int]) -> None:
    await asyncio.gather(*(_forward(address, port) for port in ports))


def main() -> None:
    """Forward until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m local.forward", description="Lend loopback ports to an address.")
    parser.add_argument("address")
    parser.add_argument("port", type=int, nargs="+")
    arguments = parser.parse_args()
    asyncio.run(_forward_all(arguments.address, arguments.port))


if __name__ == "__main__":
    main()
