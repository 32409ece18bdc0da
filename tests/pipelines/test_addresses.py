"""Which addresses may be connected to."""

import socket

import pytest

from pipelines.web.addresses import is_public, permitted, resolve


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


def test_one_private_address_of_a_host_is_enough_to_refuse_it() -> None:
    assert permitted(["8.8.8.8"], allow_private=False)
    assert not permitted(["8.8.8.8", "127.0.0.1"], allow_private=False)
    assert permitted(["8.8.8.8", "127.0.0.1"], allow_private=True)
    assert not permitted([], allow_private=True)


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1%eth0", "not an address"])
def test_link_local_addresses_are_refused_even_where_private_ones_are_let_in(address: str) -> None:
    assert not permitted(["10.0.0.1", address], allow_private=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "127.1"])
def test_odd_spellings_resolve_to_what_they_mean(host: str) -> None:
    assert resolve(host, 80) == [(socket.AF_INET, "127.0.0.1")]
