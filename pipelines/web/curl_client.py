"""Exchanges over HTTP by libcurl on an event loop: many at once, each bounded in time and bytes.

TLS sessions, the list of authorities and idle connections are shared by all of them. Redirects
are handed back, never followed here.
"""

import asyncio
import selectors
from collections.abc import Callable

import pycurl

from pipelines.sources.fetch_result import Reply
from pipelines.web.authorities import Authorities
from pipelines.web.curl_handle import CurlHandle, FetchRequest

IDLE = 256  # connections kept open while nothing is asked


class CurlClient:
    """libcurl's multi interface on an event loop; to be used on its thread alone.

    `spend` is told of the bytes of bodies as they come; where it answers False, the exchange ends.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        user_agent: str,
        *,
        ca_file: str | None = None,
        spend: Callable[[int], bool] = lambda size: True,
    ) -> None:
        self._loop = loop
        self._agent, self._spend = user_agent, spend
        self._authorities = Authorities(ca_file)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, IDLE)
        self._share = pycurl.CurlShare()
        self._share.setopt(pycurl.SH_SHARE, pycurl.LOCK_DATA_SSL_SESSION)
        self._sockets = selectors.DefaultSelector()
        self._timer: asyncio.Handle | None = None
        self._waiting: dict[pycurl.Curl, asyncio.Future[tuple[int, str]]] = {}
        self._free: list[CurlHandle] = []
        loop.add_reader(self._sockets, self._ready)

    async def ask(self, request: FetchRequest, seconds: float) -> Reply:
        """One exchange of so long at most; FetchError if it brings no answer that may be had."""
        handle = self._free.pop() if self._free else self._made()
        try:
            handle.take(request, seconds)
            code, words = await self._ended(handle.curl)
            return handle.answer(code, words)
        finally:
            self._free.append(handle)

    async def _ended(self, curl: pycurl.Curl) -> tuple[int, str]:
        """The error of an exchange in number and words when it has ended; 0 for none."""
        future: asyncio.Future[tuple[int, str]] = self._loop.create_future()
        self._waiting[curl] = future
        self._multi.add_handle(curl)
        try:
            return await future
        finally:
            del self._waiting[curl]
            self._multi.remove_handle(curl)

    def close(self) -> None:
        """Close all connections; nothing may be under way."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sockets)
        for handle in self._free:
            handle.curl.close()
        self._multi.close()
        self._sockets.close()
        self._authorities.close()

    def _made(self) -> CurlHandle:
        return CurlHandle(self._agent, self._authorities.options, self._share, self._spend)

    def _on_socket(self, what: int, number: int, multi: object, data: object) -> None:
        known = number in self._sockets.get_map()
        if what == pycurl.POLL_REMOVE:
            if known:
                self._sockets.unregister(number)
            return
        reads = selectors.EVENT_READ if what & pycurl.POLL_IN else 0
        writes = selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        if known:
            self._sockets.modify(number, reads | writes)
        else:
            self._sockets.register(number, reads | writes)

    def _on_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if milliseconds == 0:  # as at the beginning of each exchange
            self._timer = self._loop.call_soon(self._expired)
        elif milliseconds > 0:
            self._timer = self._loop.call_later(milliseconds / 1000, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._settle()

    def _ready(self) -> None:
        for key, events in self._sockets.select(0):
            reads = pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0
            writes = pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0
            self._multi.socket_action(key.fd, reads | writes)
        self._settle()

    def _settle(self) -> None:
        """Wake those whose exchange has ended."""
        more = 1
        while more:
            more, good, bad = self._multi.info_read()
            for curl, code, words in [*((curl, 0, "") for curl in good), *bad]:
                future = self._waiting.get(curl)
                if future is not None and not future.done():
                    future.set_result((code, words))
