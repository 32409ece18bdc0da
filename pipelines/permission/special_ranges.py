"""The ranges of addresses that serve a special purpose, as IANA registers them.

Python's `ipaddress` has such tables too, but those of its release: Python 3.11.7 calls 192.0.0.192,
3fff::1 and 5f00::1 public. So they stand here, with their date, and change with a commit.

Sources, each as of 2025-10-09:
https://www.iana.org/assignments/iana-ipv4-special-registry
https://www.iana.org/assignments/iana-ipv6-special-registry
"""

import ipaddress
from functools import lru_cache

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UPDATED = "2025-10-09"

# Whether a range is globally reachable. What the registries leave open (N/A, or a blank beside a
# deprecated range) is not: unknown is no permission. Multicast has registries of its own.
IPV4 = {
    "0.0.0.0/8": False,  # this network, RFC 791
    "0.0.0.0/32": False,  # this host on this network, RFC 1122
    "10.0.0.0/8": False,  # private use, RFC 1918
    "100.64.0.0/10": False,  # shared address space, RFC 6598
    "127.0.0.0/8": False,  # loopback, RFC 1122
    "169.254.0.0/16": False,  # link local, RFC 3927
    "172.16.0.0/12": False,  # private use, RFC 1918
    "192.0.0.0/24": False,  # IETF protocol assignments, RFC 6890
    "192.0.0.0/29": False,  # IPv4 service continuity, RFC 7335
    "192.0.0.8/32": False,  # dummy address, RFC 7600
    "192.0.0.9/32": True,  # port control protocol anycast, RFC 7723
    "192.0.0.10/32": True,  # traversal using relays around NAT, anycast, RFC 8155
    "192.0.0.170/32": False,  # NAT64 and DNS64 discovery, RFC 8880
    "192.0.0.171/32": False,
    "192.0.2.0/24": False,  # documentation, RFC 5737
    "192.31.196.0/24": True,  # AS112, RFC 7535
    "192.52.193.0/24": True,  # automatic multicast tunnelling, RFC 7450
    "192.88.99.0/24": False,  # deprecated: 6to4 relay anycast, RFC 7526
    "192.88.99.2/32": False,  # 6a44 relay anycast, RFC 6751
    "192.168.0.0/16": False,  # private use, RFC 1918
    "192.175.48.0/24": True,  # direct delegation of AS112, RFC 7534
    "198.18.0.0/15": False,  # benchmarking, RFC 2544
    "198.51.100.0/24": False,  # documentation, RFC 5737
    "203.0.113.0/24": False,  # documentation, RFC 5737
    "224.0.0.0/4": False,  # multicast, RFC 5771
    "240.0.0.0/4": False,  # reserved, RFC 1112
    "255.255.255.255/32": False,  # limited broadcast, RFC 8190
}

IPV6 = {
    "::/0": False,  # whatever no line below names is not assigned, RFC 4291
    "2000::/3": True,  # global unicast, RFC 4291
    "::/128": False,  # unspecified, RFC 4291
    "::1/128": False,  # loopback, RFC 4291
    "100::/64": False,  # discard only, RFC 6666
    "100:0:0:1::/64": False,  # dummy prefix, RFC 9780
    "2001::/23": False,  # IETF protocol assignments, RFC 2928
    "2001:1::1/128": True,  # port control protocol anycast, RFC 7723
    "2001:1::2/128": True,  # traversal using relays around NAT, anycast, RFC 8155
    "2001:1::3/128": True,  # registration of DNS-SD services, anycast, RFC 9665
    "2001:2::/48": False,  # benchmarking, RFC 5180
    "2001:3::/32": True,  # automatic multicast tunnelling, RFC 7450
    "2001:4:112::/48": True,  # AS112, RFC 7535
    "2001:10::/28": False,  # deprecated: ORCHID, RFC 4843
    "2001:20::/28": True,  # ORCHIDv2, RFC 7343
    "2001:30::/28": True,  # drone remote identification, RFC 9374
    "2001:db8::/32": False,  # documentation, RFC 3849
    "2620:4f:8000::/48": True,  # direct delegation of AS112, RFC 7534
    "3fff::/20": False,  # documentation, RFC 9637
    "5f00::/16": False,  # segment routing, RFC 9602
    "fc00::/7": False,  # unique local, RFC 4193
    "fe80::/10": False,  # link local, RFC 4291
    "ff00::/8": False,  # multicast, RFC 4291
}

# Where clouds tell a machine its secrets, beside the link-local 169.254.169.254 and fe80::.
METADATA = frozenset(
    {
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's wire server; its range is public, its answers are not
        "192.0.0.192",  # Oracle Cloud
        "fd00:42::42",  # Scaleway
        "fd00:ec2::254",  # Amazon
        "fd20:ce::254",  # Google
    }
)

MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291
COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, deprecated
TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")  # SIIT, RFC 2765, obsolete
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215
SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")  # RFC 3056
TEREDO = ipaddress.IPv6Network("2001::/32")  # RFC 4380

IN_THE_LAST_BITS = (MAPPED, COMPATIBLE, TRANSLATED, NAT64)
ISATAP = (0x00005EFE, 0x02005EFE)  # the bits before the IPv4 address, RFC 5214 6.1


@lru_cache(maxsize=4096)
def is_globally_reachable(address: IP) -> bool:
    """Whether packets to an address leave every network, by the narrowest range that holds it.

    An IPv6 address that carries IPv4 addresses is what those are: it is a way to them.
    """
    inner = embedded(address)
    if inner and not all(map(is_globally_reachable, inner)):
        return False

    return is_carrier(address) or _registered(address)


def embedded(address: IP) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address may lead to, none if it carries none."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()

    bits = int(address)
    last = ipaddress.IPv4Address(bits & 0xFFFFFFFF)

    if any(address in network for network in IN_THE_LAST_BITS):
        return (last,)

    if address in LOCAL_NAT64:
        return _by_each_layout(bits)

    if address in SIX_TO_FOUR:
        return (ipaddress.IPv4Address(bits >> 80 & 0xFFFFFFFF),)

    if address in TEREDO:  # its server, and the client with all bits turned over
        server = ipaddress.IPv4Address(bits >> 64 & 0xFFFFFFFF)
        return server, ipaddress.IPv4Address(~bits & 0xFFFFFFFF)

    return (last,) if bits >> 32 & 0xFFFFFFFF in ISATAP else ()


def is_carrier(address: IP) -> bool:
    """Whether an address is nothing but the way to those that it carries."""
    carriers = (*IN_THE_LAST_BITS, LOCAL_NAT64, SIX_TO_FOUR, TEREDO)
    return any(address in network for network in carriers)


def _by_each_layout(bits: int) -> tuple[ipaddress.IPv4Address, ...]:
    """What a translator may read, whose prefix is 48, 56, 64 or 96 bits long (RFC 6052 2.2).

    The octet after the first 64 bits is skipped, what is behind the address is zero; as long as it
    is.
    """
    octets = bits.to_bytes(16, "big")
    skipping = octets[:8] + octets[9:]
    found = [octets[12:]]

    for start in (6, 7, 8):
        if not any(skipping[start + 4 :]):
            found.append(skipping[start : start + 4])

    return tuple(ipaddress.IPv4Address(four) for four in found)


def _networks(table: dict[str, bool]) -> list[tuple[Network, bool]]:
    """The ranges of a table, narrow ones first."""
    networks = [(ipaddress.ip_network(text), reachable) for text, reachable in table.items()]
    return sorted(networks, key=lambda entry: -entry[0].prefixlen)


_NARROWEST_FIRST = {4: _networks(IPV4), 6: _networks(IPV6)}


def _registered(address: IP) -> bool:
    """What the registries say of an address; one of IPv4 that they do not name is an ordinary
    one.
    """
    ranges = _NARROWEST_FIRST[address.version]
    return next((reachable for network, reachable in ranges if address in network), True)
