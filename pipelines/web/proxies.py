"""Which proxy an address is asked through: the environment's, as curl, requests and browsers read
it.

HTTPS_PROXY and HTTP_PROXY by the scheme of the address, ALL_PROXY for both, in either case;
NO_PROXY names hosts, domains and networks that are asked directly
(`localhost,.example.org,10.0.0.0/8`).
"""

import ipaddress
from dataclasses import dataclass
from urllib import request
from urllib.parse import urlsplit

from pipelines.permission.networks import permitted, resolve

PORTS = {"http": 80, "https": 443, "socks4a": 1080, "socks5h": 1080}
# the proxy looks names up, as an HTTP proxy does, so that all kinds are judged alike
LOOKED_UP_THERE = {"socks": "socks5h", "socks5": "socks5h", "socks4": "socks4a"}


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """One proxy: its address as curl takes it, and the host and port to connect to."""

    url: str
    host: str
    port: int


class Proxies:
    """The proxies of the environment as it is now."""

    def __init__(self) -> None:
        named = request.getproxies_environment()
        self._bypass = {"no": named.pop("no", "")}
        self._by_scheme = {
            scheme: _proxy(scheme, url)
            for scheme in ("http", "https")
            if (url := named.get(scheme) or named.get("all"))
        }
        self._networks = [
            net for entry in self._bypass["no"].split(",") if (net := _network(entry))
        ]

    def of(self, url: str) -> Proxy | None:
        """The proxy of an address, None where it is asked directly."""
        if not self._by_scheme:
            return None
        parts = urlsplit(url)
        proxy = self._by_scheme.get(parts.scheme)
        if proxy is None or self._is_direct(parts.hostname or "", parts.port):
            return None
        return proxy

    def all(self) -> list[Proxy]:
        return list(dict.fromkeys(self._by_scheme.values()))

    def _is_direct(self, host: str, port: int | None) -> bool:
        place = f"{host}:{port}" if port else host
        if request.proxy_bypass_environment(place, self._bypass):  # type: ignore[attr-defined]
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def check_proxies(*, allow_private: bool) -> None:
    """ValueError where the environment names a proxy that is private, unless that is allowed."""
    for proxy in Proxies().all():
        try:
            addresses = [address for _, address in resolve(proxy.host, proxy.port)]
        except (
            OSError,
            UnicodeError,
        ):  # it may be there later; till then each address says fetch.proxy
            continue
        if not permitted(addresses, allow_private=allow_private):
            raise ValueError(
                f"the proxy {proxy.host} of the environment has a private address: add"
                " --allow-private-proxy to ask through it, or unset HTTPS_PROXY, HTTP_PROXY and"
                " ALL_PROXY"
            )


def _proxy(scheme: str, url: str) -> Proxy:
    """ValueError for what is no address of a proxy."""
    whole = url if "://" in url else f"http://{url}"
    kind, _, rest = whole.partition("://")
    kind = LOOKED_UP_THERE.get(kind.lower(), kind.lower())
    wrong = (
        f"{scheme.upper()}_PROXY or ALL_PROXY is no address of a proxy: write it as"
        " http://host:port"
    )
    try:
        parts = urlsplit(f"{kind}://{rest}")
        host, port = parts.hostname, parts.port or PORTS.get(kind)
    except ValueError as error:
        raise ValueError(wrong) from error
    if not host or port is None:
        raise ValueError(wrong)
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    place = f"[{host}]" if ":" in host else host
    return Proxy(url=f"{kind}://{user}{place}:{port}", host=host, port=port)


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if "/" not in entry:
        return None
    try:
        return ipaddress.ip_network(entry.strip(), strict=False)
    except ValueError:
        return None
