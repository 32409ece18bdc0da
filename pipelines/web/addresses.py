"""Which addresses of the network may be connected to: public ones, unless the configuration lets private ones in."""

import ipaddress
import socket
from collections.abc import Callable, Sequence

EMBEDDING = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address wrapped for NAT64
Address = tuple[socket.AddressFamily, str]
Resolver = Callable[[str, int], list[Address]]


def is_public(address: str) -> bool:
    """Whether an IP address is reachable by everybody; an IPv4 address inside an IPv6 one is judged by itself."""
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in EMBEDDING:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return ip.is_global and not ip.is_multicast and not (isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local)


def is_literal(host: str) -> bool:
    """Whether a host is an IP address in any spelling that a resolver takes without asking: `127.1`, `0x7f.1`, `2130706433`, `::1`."""
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
    return list(dict.fromkeys((socket.AddressFamily(family), str(address[0])) for family, _, _, _, address in found))


def permitted(addresses: Sequence[str], *, allow_private: bool) -> bool:
    """Whether a host with these addresses may be asked: one private address among public ones is already refused.

    A link-local one is refused even where private ones are let in: no intranet has pages there, but clouds keep their machines' secrets.
    """
    return bool(addresses) and not any(is_link_local(address) if allow_private else not is_public(address) for address in addresses)


def is_link_local(address: str) -> bool:
    """Whether an address is of this wire alone, or none at all; an IPv4 address inside an IPv6 one is judged by itself."""
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return True
    inner = (ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None) or ip
    return inner.is_link_local
