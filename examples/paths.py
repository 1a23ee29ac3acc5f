"""All paths between two hosts, through routers that spread flows over two of them.

python examples/paths.py [FILE.svg]      needs neither root nor a network
"""

import sys

from rawkit import Lab, trace


def main() -> None:
    with Lab.chain(4, parallel={2: 2}) as lab:
        with lab.a:
            session = trace(lab.b.ipv4, flows=16, count=1)
        for _ in session:  # what happens, as it happens; here only the end of it counts
            pass
        for addresses in sorted({path.addresses for path in session.paths()}):
            print(" -> ".join(address or "*" for address in addresses))
        for hop in session.hops():
            for node in hop.nodes:
                print(f"{hop.hop:2}  {node.address}  {node.avg_ns / 1e6:.3f} ms  {len(node.flows)} flows")
        if len(sys.argv) > 1:
            with open(sys.argv[1], "w", encoding="utf-8") as file:
                file.write(session.graph().to_svg())


if __name__ == "__main__":
    main()
