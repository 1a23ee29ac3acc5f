"""Does a server still answer as it did in a capture? Once by real sockets, once packet by packet.

python examples/same_answers.py      needs neither root nor a network
"""

from dataclasses import replace
from pathlib import Path

from rawkit import Lab
from rawkit.pcap import open_pcap
from rawkit.tools.payloadreplay import PayloadConfig, replay_payload
from rawkit.tools.replayexpect import Expectation
from rawkit.tools.replayplan import ReplayConfig
from rawkit.tools.rewrite import Rewrite, parse_prefix_map

FIXTURE = Path(__file__).parents[1] / "pcaps" / "http.pcapng"


def main() -> None:
    with Lab() as lab:
        lab.b.serve("http")
        with lab.a:
            with open_pcap(FIXTURE) as reader:
                for result in replay_payload(reader, PayloadConfig(str(lab.b.ipv4))):
                    print(f"{result.conversation}: {result.verdict} {result.detail}")

            # Packets of a client that this host's kernel knows nothing of, and does not reset.
            rewrite = Rewrite(dst_mac=lab.b.mac, prefixes=(parse_prefix_map(f"{lab.a.ipv4}=10.77.0.99"),))
            config = ReplayConfig("veth0", rewrite=rewrite)
            with open_pcap(FIXTURE) as reader:
                report = Expectation(reader, config).run()
            print(f"{report.matched} of {report.expected} answers are the same, packet by packet")

            # What would a shorter time to live look like?
            config = replace(config, rewrite=replace(rewrite, ttl=63))
            with open_pcap(FIXTURE) as reader:
                for mismatch in Expectation(reader, config).run().mismatches:
                    print(f"packet {mismatch.number}: {'; '.join(mismatch.differences)}")


if __name__ == "__main__":
    main()
