"""One side of a bulk transfer over QUIC by aioquic, for transport_link.py; run by a Python that has aioquic.

aioquic_bulk.py server ADDRESS          takes a stream, and answers with its length when it ends
aioquic_bulk.py client ADDRESS OCTETS   prints how many seconds it took until the answer came
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
import sys
import time

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PORT = 4433


async def server(address: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(1))
    configuration = QuicConfiguration(is_client=False, max_datagram_size=1440)
    configuration.certificate = builder.not_valid_after(now + datetime.timedelta(1)).sign(
        key, hashes.SHA256()
    )
    configuration.private_key = key

    def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def take() -> None:
            n = 0
            while piece := await reader.read(1 << 20):
                n += len(piece)
            writer.write(b"%d" % n)
            writer.write_eof()

        task = asyncio.get_running_loop().create_task(take())
        tasks.add(task)

    tasks: set[asyncio.Task[None]] = set()
    await serve(address, PORT, configuration=configuration, stream_handler=handle)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def client(address: str, octets: int) -> None:
    configuration = QuicConfiguration(is_client=True, verify_mode=ssl.CERT_NONE, max_datagram_size=1440)
    async with connect(address, PORT, configuration=configuration) as connection:
        reader, writer = await connection.create_stream()
        start = time.perf_counter()
        writer.write(bytes(octets))
        writer.write_eof()
        answer = await reader.read()
        took = time.perf_counter() - start
        assert int(answer) == octets, answer
        print(took, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "server":
        asyncio.run(server(sys.argv[2]))
    else:
        asyncio.run(client(sys.argv[2], int(sys.argv[3])))
