"""Which addresses of the network may be connected to: public ones, unless the configuration lets
private ones in.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence

from pipelines.permission.special_ranges import IP, METADATA, embedded, is_globally_reachable

Address = tuple[socket.AddressFamily, str]
Resolver = Callable[[str, int], list[Address]]


def is_public(address: str) -> bool:
    """Whether an IP address is reachable by everybody; an IPv6 address that carries IPv4 ones is
    judged by them.
    """
    ip = _parsed(address)
    return ip is not None and is_globally_reachable(ip) and not is_secret(address)


def _parsed(address: str) -> IP | None:
    """An IP address without its scope (`%eth0`), None if it is none."""
    try:
        return ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return None


def is_literal(host: str) -> bool:
    """Whether a host is an IP address in any spelling that a resolver takes without asking:
    `127.1`, `0x7f.1`, `2130706433`, `::1`.
    """
    if ":" in host:
        return True
    try:
        socket.inet_aton(host)
    except (OSError, UnicodeError):
        return False
    return True


def resolve(host: str, port: int) -> list[Address]:
    """(family, address) of a host in the system's order; OSError (gaierror) if it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(
        dict.fromkeys(
            (socket.AddressFamily(family), str(address[0])) for family, _, _, _, address in found
        )
    )


def permitted(addresses: Sequence[str], *, allow_private: bool) -> bool:
    """Whether a host with these addresses may be asked: one private address among public ones is
    already refused.

    Where clouds keep their machines' secrets is refused even where private addresses are let in: a
    link-local address, where no intranet has pages, or one of those that they publish.
    """
    return bool(addresses) and not any(
        is_secret(address) if allow_private else not is_public(address) for address in addresses
    )


def is_secret(address: str) -> bool:
    """Whether an address is of this wire alone, a cloud's own, or none at all; one that carries
    IPv4 addresses is what they are.
    """
    ip = _parsed(address)
    return ip is None or any(
        one.is_link_local or str(one) in METADATA for one in (ip, *embedded(ip))
    )
