"""What this machine and this user allow: each check tries the thing itself, whoever asks.

`examine()` gives the facts; `abilities()` says what they mean for each command, and what would give the rest.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BUFFER_WANTED = 4 << 20  # octets; about 20 ms of small frames at a gigabit per second

# Runs a program as the user who types it, with CAP_NET_RAW and nothing else. No file on disk gains a right:
# setcap on a Python interpreter would give the capability to every script of every user.
WITH_NET_RAW = (
    'sudo setpriv --reuid "$(id -u)" --regid "$(id -g)" --init-groups'
    " --inh-caps +net_raw --ambient-caps +net_raw --"
)

_KERNEL_WANTED = (4, 20)  # the first with PACKET_IGNORE_OUTGOING
_COMMANDS = ("read", "show", "ping", "scan", "capture", "send", "replay", "lab", "demo")
_NAMES_SHOWN = 6
_TCP_REPAIR = 19  # <linux/tcp.h>


@dataclass(frozen=True, slots=True)
class Check:
    """Whether one thing works, what was found, and the command lines that would change it."""

    name: str
    ok: bool
    detail: str
    fixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ability:
    """What a command can do now: `level` is "yes", "partly" or "no"; any one line of `fixes` gives more."""

    command: str
    level: str
    detail: str
    fixes: tuple[str, ...] = ()


def examine() -> Mapping[str, Check]:
    """Every check by its key. Sends nothing and changes nothing; takes about a tenth of a second."""
    return {
        "kernel": _kernel(),
        "engine": _engine(),
        "libpcap": _libpcap(),
        "packet_socket": _packet_socket(),
        "raw_socket": _raw_socket(),
        "icmp_ipv4": _icmp_socket("ICMP sockets, IPv4", socket.AF_INET, socket.IPPROTO_ICMP),
        "icmp_ipv6": _icmp_socket("ICMP sockets, IPv6", socket.AF_INET6, socket.IPPROTO_ICMPV6),
        "namespaces": _namespaces(),
        "net_admin": _net_admin(),
        "tun": _tun(),
        "silence": _silence(),
        "buffer": _receive_buffer(),
        "offloads": _offloads(),
    }


def abilities(checks: Mapping[str, Check], rawkit: str = "rawkit") -> tuple[Ability, ...]:
    """What each command can do, given what `examine()` found. `rawkit` is the program as one types it."""
    works = {key: check.ok for key, check in checks.items()}
    raw = works["packet_socket"] and works["raw_socket"]

    grants = [f"{rawkit} lab run -- {rawkit} ..."] if works["namespaces"] else []
    if os.geteuid() == 0:  # and yet without the capability: in a container
        grants.append("docker run --cap-add=NET_RAW ...")
    else:
        grants += [f"sudo {rawkit} ...", f"{WITH_NET_RAW} {rawkit} ..."]

    if not works["engine"]:
        missing = "the compiled engine is missing"
        return tuple(Ability(name, "no", missing, checks["engine"].fixes) for name in _COMMANDS)

    filters = "" if works["libpcap"] else "; filters need libpcap"
    files = Ability(
        "read", "yes" if works["libpcap"] else "partly", f"capture files{filters}", checks["libpcap"].fixes
    )
    found = [files, Ability("show", "yes", "packets from files, hexadecimal and expressions")]

    families = [name for key, name in (("icmp_ipv4", "IPv4"), ("icmp_ipv6", "IPv6")) if works[key]]
    if raw:
        found.append(Ability("ping", "yes", "over raw sockets"))
    elif families:
        found.append(Ability("ping", "yes", f"over ICMP sockets ({' and '.join(families)})"))
    else:
        fixes = (*checks["icmp_ipv4"].fixes, *grants)
        found.append(Ability("ping", "no", "neither ICMP nor raw sockets are open to you", fixes))

    if raw:
        found.append(Ability("scan", "yes", "SYN probes"))
    else:
        found.append(Ability("scan", "partly", "connect() probes, not SYN probes", tuple(grants)))

    for name, detail in (
        ("capture", "any interface"),
        ("send", "any packet"),
        ("replay", "any capture file"),
    ):
        if raw:
            found.append(Ability(name, "yes", detail))
        else:
            found.append(Ability(name, "no", "needs CAP_NET_RAW", tuple(grants)))
    for name in ("lab", "demo"):
        if works["namespaces"]:
            found.append(Ability(name, "yes", "private hosts in network namespaces"))
        else:
            fixes = (*checks["namespaces"].fixes, f"sudo {rawkit} {name}")
            found.append(Ability(name, "no", checks["namespaces"].detail, fixes))
    return tuple(found)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _sysctl(name: str) -> str:
    """The value of a sysctl ("net.core.rmem_max"), "" where there is none."""
    try:
        return " ".join(Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").split())
    except OSError:
        return ""


def _kernel() -> Check:
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    wanted = ".".join(map(str, _KERNEL_WANTED))
    return Check("kernel", numbers >= _KERNEL_WANTED, f"Linux {release} ({wanted} or newer is needed)")


def _engine() -> Check:
    try:
        from rawkit.engine.native import lib
    except ImportError as error:
        return Check(
            "compiled engine", False, str(error), ("pip install --force-reinstall --no-deps rawkit",)
        )
    names = {lib.RK_CPU_PORTABLE: "portable", lib.RK_CPU_SSE42: "SSE4.2", lib.RK_CPU_AVX2: "AVX2"}
    level = lib.rk_cpu_level()
    return Check("compiled engine", True, f"{names.get(level, level)} variant")


def _libpcap() -> Check:
    name = "libpcap (filters)"
    try:
        from rawkit.engine.filter import libpcap_version
        from rawkit.errors import FilterError
    except ImportError as error:
        return Check(name, False, str(error))
    try:
        version = libpcap_version()
    except FilterError as error:
        return Check(name, False, str(error), (f"{sys.executable} -m pip install libpcap",))
    # The loader knows which file it took; the version text does not say.
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        paths = {line.split(maxsplit=5)[5].rstrip() for line in maps if "/libpcap" in line}
    return Check(name, True, ", ".join([version, *sorted(paths)]))


def _packet_socket() -> Check:
    name = "packet sockets"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()  # protocol 0: hears nothing
    except OSError as error:
        return Check(name, False, f"{_reason(error)}: CAP_NET_RAW is missing")
    return Check(name, True, "CAP_NET_RAW is here")


def _raw_socket() -> Check:
    name = "raw IP sockets"
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()  # this protocol only sends
    except OSError as error:
        return Check(name, False, f"{_reason(error)}: CAP_NET_RAW is missing")
    return Check(name, True, "CAP_NET_RAW is here")


def _icmp_socket(name: str, family: int, protocol: int) -> Check:
    groups = _sysctl("net.ipv4.ping_group_range")
    setting = f"net.ipv4.ping_group_range is {groups or 'unknown'}"
    try:
        socket.socket(family, socket.SOCK_DGRAM, protocol).close()
    except PermissionError as error:
        # One setting for both families.
        fix = 'sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"'
        return Check(name, False, f"{_reason(error)}: {setting}", (fix,))
    except OSError as error:  # no IPv6 on this machine
        return Check(name, False, _reason(error))
    return Check(name, True, setting)


def _namespaces() -> Check:
    """Try, in a child process, to become root of namespaces of its own, and to open a packet socket there."""
    name = "user and network namespaces"
    try:
        from rawkit.engine.native import lib
    except ImportError as error:
        return Check(name, False, str(error))

    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        code = 0
        try:
            code = -lib.rk_ns_unshare(lib.RK_NS_NET)  # enough for root
            if code != 0:
                code = -lib.rk_ns_unshare(lib.RK_NS_USER | lib.RK_NS_NET)
            if code == 0:
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
        except OSError as error:
            code = error.errno or 1
        finally:
            os.write(write_end, bytes([code]))
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    code = answer[0] if answer else 1
    if code == 0:
        return Check(name, True, "private hosts can be made")
    fixes = []
    for key, open_value in (
        ("kernel.unprivileged_userns_clone", "1"),  # Debian's
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),  # Ubuntu's
    ):
        if _sysctl(key) not in ("", open_value):
            fixes.append(f"sudo sysctl -w {key}={open_value}")
    if _sysctl("user.max_user_namespaces") == "0":
        fixes.append("sudo sysctl -w user.max_user_namespaces=10000")
    where = "" if fixes else " (no sysctl forbids it: a container's seccomp profile may)"
    return Check(name, False, f"{os.strerror(code)}{where}", tuple(fixes))


def _net_admin() -> Check:
    name = "CAP_NET_ADMIN"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            # Needs exactly this capability over this network namespace, and concerns this socket alone.
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        except OSError as error:
            return Check(name, False, f"{_reason(error)}: only large receive buffers and tun devices need it")
    return Check(name, True, "interfaces, routes and buffer sizes can be changed")


def _tun() -> Check:
    name = "tun device"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        fixes = ("sudo modprobe tun",) if isinstance(error, FileNotFoundError) else ()
        return Check(name, False, f"/dev/net/tun: {_reason(error)}", fixes)
    return Check(name, True, "/dev/net/tun can be opened")


def _silence() -> Check:
    """What keeps the kernel from answering in place of a transport protocol in user space."""
    name = "kernel silence"
    try:
        from rawkit.link import Guard
        from rawkit.link.firewall import check_nftables
    except ImportError as error:
        return Check(name, False, str(error))
    held, reasons = [], []
    for version in (4, 6):
        try:
            with Guard(socket.IPPROTO_TCP, version=version), Guard(socket.IPPROTO_UDP, version=version):
                held.append(f"IPv{version}")
        except OSError as error:
            reasons.append(f"IPv{version}: {_reason(error)}")
    # Transports that the kernel answers for, as it names them; TCP and UDP are what guards are for.
    try:
        lines = Path("/proc/net/protocols").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    others = sorted({line.split()[0] for line in lines} & {"SCTP", "DCCP", "UDP-Lite"})
    detail = f"guard sockets hold ports of TCP and UDP ({' and '.join(held) or 'none'})"
    detail += "; an open raw socket is enough for protocol numbers of your own"
    try:
        check_nftables()
        detail += "; where a guard cannot hold a port, RawIP(firewall=True) may set an nftables rule"
    except OSError as error:
        detail += f"; no nftables rules where a guard cannot hold a port: {_reason(error)}"
    if others:
        detail += f"; the kernel itself has {', '.join(others)}"
    return Check(name, bool(held), "; ".join([detail, *reasons]))


def _receive_buffer() -> Check:
    name = "receive buffers"
    default, most = _sysctl("net.core.rmem_default"), _sysctl("net.core.rmem_max")
    detail = f"{default or '?'} octets by default, {most or '?'} at most"
    if most.isdigit() and int(most) < BUFFER_WANTED:
        return Check(
            name,
            False,
            f"{detail}: bursts may be dropped during capture",
            (f"sudo sysctl -w net.core.rmem_max={BUFFER_WANTED}",),
        )
    return Check(name, True, detail)


def _offloads() -> Check:
    """Which interfaces show frames that no wire carries: `rawkit capture` explains those."""
    from rawkit.net import interfaces
    from rawkit.net.ethtool import offloads

    longer: dict[str, list[str]] = {}
    for interface in interfaces():
        states = offloads(interface.name) if interface.up else {}
        on = ", ".join(name for name in ("gro", "gso", "tso", "tx") if states.get(name))
        if on:
            longer.setdefault(on, []).append(interface.name)
    texts = [
        f"{', '.join(names[:_NAMES_SHOWN])}{' ...' if len(names) > _NAMES_SHOWN else ''} ({on} on)"
        for on, names in longer.items()
    ]
    detail = (
        f"merged or uncut frames, unfinished checksums on {'; '.join(texts)}" if texts else "as on the wire"
    )
    return Check("what captures show", True, detail)
