"""Which addresses may be connected to."""

import ipaddress
import socket

import pytest

from pipelines.permission.networks import is_public, permitted, resolve
from pipelines.permission.special_ranges import IPV4, IPV6, embedded


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("8.8.8.8", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("192.0.2.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("not an address", False),
        ("", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


# first and last of each range, and their neighbours, as the registries had it on 2025-10-09
@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("0.255.255.255", False),
        ("1.0.0.0", True),
        ("9.255.255.255", True),
        ("11.0.0.0", True),
        ("100.63.255.255", True),
        ("100.127.255.255", False),
        ("100.128.0.0", True),
        ("172.15.255.255", True),
        ("172.31.255.255", False),
        ("172.32.0.0", True),
        ("191.255.255.255", True),
        ("192.0.0.0", False),
        ("192.0.0.7", False),
        ("192.0.0.8", False),
        ("192.0.0.9", True),
        ("192.0.0.10", True),
        ("192.0.0.11", False),
        ("192.0.0.100", False),
        ("192.0.0.170", False),
        ("192.0.0.171", False),
        ("192.0.0.192", False),
        ("192.0.0.255", False),
        ("192.0.1.0", True),
        ("192.0.2.255", False),
        ("192.0.3.0", True),
        ("192.31.196.1", True),
        ("192.52.193.1", True),
        ("192.88.98.255", True),
        ("192.88.99.0", False),
        ("192.88.99.2", False),
        ("192.88.99.255", False),
        ("192.88.100.0", True),
        ("192.167.255.255", True),
        ("192.169.0.0", True),
        ("192.175.48.6", True),
        ("198.17.255.255", True),
        ("198.18.0.0", False),
        ("198.19.255.255", False),
        ("198.20.0.0", True),
        ("198.51.100.7", False),
        ("203.0.113.255", False),
        ("203.0.114.0", True),
        ("223.255.255.255", True),
        ("239.255.255.255", False),
        ("240.0.0.0", False),
        ("168.63.129.16", False),
        ("100::1", False),
        ("100:0:0:1::", False),
        ("100:0:0:1:ffff:ffff:ffff:ffff", False),
        ("100:0:0:2::", False),
        ("200::1", False),
        ("1fff:ffff::1", False),
        ("2001:1::", False),
        ("2001:1::1", True),
        ("2001:1::2", True),
        ("2001:1::3", True),
        ("2001:1::4", False),
        ("2001:2::1", False),
        ("2001:3::1", True),
        ("2001:4:112::1", True),
        ("2001:4:113::1", False),
        ("2001:10::1", False),
        ("2001:20::1", True),
        ("2001:30::1", True),
        ("2001:40::1", False),
        ("2001:1ff:ffff::1", False),
        ("2001:200::1", True),
        ("2001:db8::1", False),
        ("2001:db9::1", True),
        ("2620:4f:8000::1", True),
        ("3ffe:ffff::1", True),
        ("3fff::", False),
        ("3fff:fff:ffff::1", False),
        ("3fff:1000::1", True),
        ("4000::1", False),
        ("5f00::1", False),
        ("5f01::1", False),
        ("fdff::1", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("ff0e::1", False),
    ],
)
def test_special_ranges_and_their_neighbours(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(("text", "reachable"), [*IPV4.items(), *IPV6.items()])
def test_the_last_address_of_every_range_is_what_its_line_says(text: str, reachable: bool) -> None:
    assert is_public(str(ipaddress.ip_network(text)[-1])) is reachable


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("::ffff:192.0.0.192", False),
        ("::ffff:192.88.99.1", False),
        ("::127.0.0.1", False),
        ("::8.8.8.8", True),
        ("::ffff:0:127.0.0.1", False),
        ("::ffff:0:8.8.8.8", True),
        ("64:ff9b::c000:c0", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::7f00:1", False),
        ("64:ff9b:1::808:808", True),
        ("64:ff9b:1:fffe::a00:1", False),
        ("64:ff9b:1:fffe::808:808", True),
        ("64:ff9b:1:7f00:0:100::", False),  # 127.0.0.1 behind a prefix of 48 bits
        ("64:ff9b:1:7f:0:1::", False),  # of 56
        ("64:ff9b:1::7f:0:100:0", False),  # of 64: its last bits alone would be 1.0.0.0
        ("64:ff9b:1::8:808:800:0", True),  # 8.8.8.8 behind the same
        ("2002:a00:1::1", False),
        ("2002:808:808::1", True),
        ("2002:c000:c0::", False),
        ("2001:0:808:808::f7f7:f7f7", True),  # Teredo: server and client 8.8.8.8
        ("2001:0:808:808::80ff:fffe", False),  # client 127.0.0.1
        ("2001:0:7f00:1::f7f7:f7f7", False),  # server 127.0.0.1
        ("2606:4700::5efe:10.0.0.1", False),  # ISATAP
        ("2606:4700::200:5efe:808:808", True),
        ("2001:db8::5efe:808:808", False),
        ("2606:4700::1%eth0", True),
        ("::ffff:10.0.0.1%1", False),
    ],
)
def test_an_address_that_carries_another_is_judged_by_it(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_what_an_address_carries() -> None:
    inner = embedded(ipaddress.ip_address("2001:0:808:404:8000:f227:f7f7:f7fe"))
    assert [str(one) for one in inner] == ["8.8.4.4", "8.8.8.1"]
    assert embedded(ipaddress.ip_address("10.0.0.1")) == ()
    assert embedded(ipaddress.ip_address("2606:4700::1")) == ()


def test_one_private_address_of_a_host_is_enough_to_refuse_it() -> None:
    assert permitted(["8.8.8.8"], allow_private=False)
    assert not permitted(["8.8.8.8", "127.0.0.1"], allow_private=False)
    assert permitted(["8.8.8.8", "127.0.0.1"], allow_private=True)
    assert not permitted([], allow_private=True)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
        "2002:a9fe:a9fe::1",
        "fe80::1%eth0",
        "192.0.0.192",
        "100.100.100.200",
        "::ffff:100.100.100.200",
        "fd00:ec2::254",
        "fd20:ce::254",
        "not an address",
    ],
)
def test_where_clouds_keep_secrets_is_refused_even_where_private_ones_are_let_in(
    address: str,
) -> None:
    assert not permitted(["10.0.0.1", address], allow_private=True)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "127.1",
        "127.0.1",
        "017700000001",
        "0177.0.0.1",
        "0x7f000001",
        "\uff11\uff12\uff17.\uff10.0.1",  # full-width digits
        "127\u30020\u30020\u30021",  # full stops of Chinese
    ],
)
def test_odd_spellings_resolve_to_what_they_mean(host: str) -> None:
    assert resolve(host, 80) == [(socket.AF_INET, "127.0.0.1")]
