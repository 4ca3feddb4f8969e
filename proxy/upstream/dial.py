"""Opens connections to one endpoint: name look-up, TCP or Unix socket, TLS."""

import asyncio
import errno
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, TypeVar

from proxy.config.model import TlsConfig
from proxy.config.types import UpstreamUrl
from proxy.errors import (
    ConnectionLimitReached,
    ConnectionRefused,
    ConnectionTimeout,
    DnsTimeout,
    ProxyError,
    TlsCertificateError,
    TlsError,
    Unroutable,
)
from proxy.upstream.dns import Resolver

P = TypeVar("P", bound=asyncio.Protocol)

_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""We have no file descriptor, memory or port left: the upstream has nothing to do with it."""
_NO_LISTENER: Final = frozenset({errno.ENOENT, errno.EACCES, errno.ENOTSOCK})
"""What a Unix socket answers when nobody listens on it."""


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """The context of one upstream; certificate and host name are always verified. Raises OSError and ssl.SSLError."""
    context = ssl.create_default_context(cafile=tls.ca)
    if tls.ca is not None:
        # Strict since Python 3.13, which refuses many a private CA, such as one without keyUsage.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


class Dialer:
    """Opens connections to `url`, each within `timeout` seconds, look-up and handshake included."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        url: UpstreamUrl,
        resolver: Resolver,
        *,
        timeout: float,
        context: ssl.SSLContext | None,
        server_name: str | None,
    ) -> None:
        self._loop = loop
        self._url = url
        self._resolver = resolver
        self._timeout = timeout
        self._context = context
        self._server_name = (server_name or url.host) if context is not None else None
        self._is_address = _is_address(url.host)

    async def dial(self, factory: Callable[[], P]) -> P:
        """A connected protocol. Raises ProxyError; then, and when cancelled, nothing stays open."""
        deadline = self._loop.time() + self._timeout
        if self._url.scheme == "unix":
            return await self._connect_within(deadline, factory, self._url.path)
        addresses = await self._resolve(deadline)
        for left in range(len(addresses), 1, -1):
            now = self._loop.time()
            try:
                return await self._connect_within(now + (deadline - now) / left, factory, addresses[-left])
            except (ConnectionRefused, ConnectionTimeout, Unroutable):
                continue  # the next address may do
        return await self._connect_within(deadline, factory, addresses[-1])

    async def _resolve(self, deadline: float) -> list[str]:
        if self._is_address:
            return [self._url.host]
        try:
            async with asyncio.timeout_at(deadline):
                return await self._resolver.resolve(self._url.host, self._url.port)
        except TimeoutError:
            raise DnsTimeout(request_written=False) from None

    async def _connect_within(self, deadline: float, factory: Callable[[], P], address: str) -> P:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._connect(factory, address)
        except TimeoutError:
            raise ConnectionTimeout(request_written=False) from None
        except ssl.SSLCertVerificationError as error:
            raise TlsCertificateError(cause=error.verify_message, request_written=False) from None
        except ssl.SSLError as error:
            raise TlsError(cause=str(error.reason), request_written=False) from None
        except OSError as error:
            raise self._translate(error) from None

    async def _connect(self, factory: Callable[[], P], address: str) -> P:
        if self._url.scheme == "unix":
            return (await self._loop.create_unix_connection(factory, address))[1]
        connected = await self._loop.create_connection(
            factory,
            address,
            self._url.port,
            ssl=self._context,
            server_hostname=self._server_name,
        )
        return connected[1]

    def _translate(self, error: OSError) -> ProxyError:
        cause = repr(error)
        if error.errno in _OURS:
            return ConnectionLimitReached(cause=cause, request_written=False)
        if isinstance(error, ConnectionRefusedError) or error.errno in _NO_LISTENER:
            return ConnectionRefused(cause=cause, request_written=False)
        if isinstance(error, ConnectionError):
            ended = ConnectionRefused if self._context is None else TlsError
            return ended(cause=cause, request_written=False)
        return Unroutable(cause=cause, request_written=False)

    def __repr__(self) -> str:
        return f"<Dialer {self._url}>"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
