"""Reliable multicast by NACKs: everybody gets everything, and questions do not multiply with receivers."""

from __future__ import annotations

from typing import Any

import pytest

from rawkit.sim import App, Bernoulli, Driver, LinkSpec, Network, Numbers
from rawkit.transport import Close, Closed, PeerClosed, Write
from rawkit.transport.protocols.nack_multicast import NackMulticast

MESSAGES = [b"message %d" % i for i in range(60)]


class Beat(App):
    """Writes a message every 20 ms, and closes."""

    def begin(self, driver: Driver) -> None:
        for i, message in enumerate(MESSAGES):
            driver.clock.at(i * 20 * 10**6, driver.do, Write(message))
        driver.clock.at(len(MESSAGES) * 20 * 10**6, driver.do, Close())


def run(
    receivers: int, shared: LinkSpec, own: LinkSpec, seed: int = 1
) -> tuple[Driver, list[Driver], Network]:
    network = Network(seed)
    sender, router = network.host("s"), network.router("r")
    network.link(sender, router, shared, LinkSpec(delay="10ms"))
    hosts = [network.host(f"h{i}") for i in range(receivers)]
    for host in hosts:
        network.link(router, host, own, LinkSpec(delay="10ms"))
    endpoints: dict[Any, Any] = {host: NackMulticast() for host in (sender, *hosts)}
    beat = Beat()
    drivers = network.join(network.group("all"), endpoints, {sender: beat})
    for driver in drivers[1:]:
        driver.open("server")
    drivers[0].open("client")
    beat.begin(drivers[0])
    network.run()
    return drivers[0], drivers[1:], network


def test_a_packet_takes_each_link_once_and_comes_to_all_but_the_sender() -> None:
    sender, receivers, network = run(5, LinkSpec(delay="10ms"), LinkSpec(delay="10ms"))
    assert network.links[0].forth.offered == sender.sent
    assert all(link.forth.offered == sender.sent for link in network.links[1:])
    assert all(driver.app.received == MESSAGES for driver in receivers)
    assert sum(driver.sent for driver in receivers) == 0
    assert Closed() in sender.app.notices
    assert all(driver.app.notices == [PeerClosed()] and driver.done for driver in receivers)


@pytest.mark.parametrize("seed", range(3))
def test_everybody_gets_everything_in_order_over_lossy_links(seed: int) -> None:
    lossy = LinkSpec(delay="10ms", models=(Bernoulli(0.1),))
    sender, receivers, _ = run(6, lossy, lossy, seed)
    assert sender.done
    assert all(driver.app.received == MESSAGES for driver in receivers)
    assert all(driver.done for driver in receivers)


def test_the_loss_of_the_last_message_is_noticed_too() -> None:
    last = Numbers([len(MESSAGES) - 1])
    _, receivers, _ = run(3, LinkSpec(delay="10ms", models=(last,)), LinkSpec(delay="10ms"))
    assert all(driver.app.received == MESSAGES for driver in receivers)


def test_a_loss_that_all_suffer_is_asked_for_a_few_times_whatever_their_number() -> None:
    lost = Numbers(range(5, 55, 5))
    per_loss = {}
    for receivers in (2, 10, 25, 50):
        _, drivers, _ = run(receivers, LinkSpec(delay="10ms", models=(lost,)), LinkSpec(delay="10ms"))
        assert all(driver.app.received == MESSAGES for driver in drivers)
        per_loss[receivers] = sum(driver.endpoint.nacks for driver in drivers) / 10  # type: ignore[attr-defined]
    assert min(per_loss.values()) >= 1
    assert max(per_loss.values()) <= 4  # 50 receivers without suppression would be 50
    assert per_loss[50] <= 3 * per_loss[2]
