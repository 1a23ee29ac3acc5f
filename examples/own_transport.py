"""A protocol of one's own between two hosts, with sockets like any other: an echo over IP protocol 253.

The hosts are private network namespaces, so this needs no root; with the addresses of two machines in place
of the lab's it needs CAP_NET_RAW on both.
"""

from __future__ import annotations

import threading

from rawkit.lab import Lab
from rawkit.link import RawIP, Socket
from rawkit.transport.protocols.go_back_n import GoBackN


def serve(server: Socket) -> None:
    child, peer = server.accept()
    with child:
        print(f"{peer[0]} is here")
        while data := child.recv(65536):
            child.sendall(data.upper())


def main() -> None:
    with Lab(delay="5ms", loss="5%", seed=1) as lab:
        with lab.a:
            near = RawIP(253)
        with lab.b:
            far = RawIP(253)
        with near, far, Socket(GoBackN, far) as server, Socket(GoBackN, near) as client:
            server.listen()
            thread = threading.Thread(target=serve, args=(server,))
            thread.start()
            client.connect((str(lab.b.ipv4), 0))
            client.sendall(b"hello over a protocol of our own\n" * 1000)
            client.shutdown()
            answer = bytearray()
            while data := client.recv(65536):
                answer += data
            thread.join()
            info = client.info()
            print(f"{len(answer)} octets, the last line {answer.splitlines()[-1].decode()!r}")
            print(f"{info.packets_sent} packets sent, kept silent by {near.silence}")


if __name__ == "__main__":
    main()
