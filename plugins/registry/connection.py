"""`Connection`: requests to one server, tried again where that can help.

What helps to try again is a broken or refused connection and the answers 408, 429, 500, 502, 503
and 504; with pauses that grow, or as long as `Retry-After` says. Everything else is an answer.
"""

from __future__ import annotations

import os
import random
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol, cast
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InsecureRequestWarning,
    LocationParseError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from torana import __version__
from torana.plugins.registry.errors import RegistryError, RegistryUnreachableError, StoppedError
from torana.plugins.registry.settings import HostSettings

ATTEMPTS: Final = 5
BROKEN: Final = (ProtocolError, ReadTimeoutError, ConnectTimeoutError, NewConnectionError)
_AGENT: Final = {"User-Agent": f"torana/{__version__}"}
_REFUSALS: Final = 2  # before a server counts as not there
AGAIN: Final = (408, 429, 500, 502, 503, 504)
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_SAME_METHOD: Final = (307, 308)  # whatever the method is
_MAX_REDIRECTS: Final = 10
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
_TIMEOUT: Final = urllib3.Timeout(connect=15.0, read=30.0)
_MAX_DRAINED: Final = 1 << 16  # bytes; a new connection costs less than more of them
_PACE_S: Final = 60.0  # over which the pace of a body is taken
_LEAST_PACE: Final = 100.0  # bytes per second
_CONNECTIONS: Final = 8  # per host, kept open
_BLOCK: Final = 1 << 18  # bytes of a body that are sent at once


class Body(Protocol):
    """What is sent; read once, from beginning to end."""

    def read(self, size: int, /) -> bytes: ...


_TRUST: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # which authorities OpenSSL trusts


class Pools:
    """Open connections of a process, by the settings and variables they were made with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[tuple[object, ...], urllib3.PoolManager] = {}

    def get(self, settings: HostSettings, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = urllib.request.getproxies().get(parts.scheme) or ""
        if proxy and urllib.request.proxy_bypass(parts.hostname or ""):
            proxy = ""
        with self._lock:
            key = settings, parts.scheme, proxy, *map(os.environ.get, _TRUST)
            if key not in self._pools:
                # Reading the authorities of the system takes some time: only where they matter.
                context = _tls(settings) if "https" in (parts.scheme, proxy[:5]) else None
                self._pools[key] = _pool(proxy, context)
            return self._pools[key]

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()


def _pool(proxy: str, context: ssl.SSLContext | None) -> urllib3.PoolManager:
    if proxy:
        return urllib3.ProxyManager(
            proxy if "://" in proxy else f"http://{proxy}", ssl_context=context, blocksize=_BLOCK
        )
    return urllib3.PoolManager(maxsize=_CONNECTIONS, ssl_context=context, blocksize=_BLOCK)


def _tls(settings: HostSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        for file in settings.ca_files:
            context.load_verify_locations(file)
        for key, certificate in settings.client_pairs:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as err:
        files = ", ".join(str(f) for f in (*settings.ca_files, *sum(settings.client_pairs, ())))
        raise RegistryError(f"certificates cannot be read: {files}: {err}") from err
    if settings.insecure:
        # Who asked for it does not want to hear of it with each request.
        urllib3.disable_warnings(InsecureRequestWarning)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Pause:
    """The pauses between attempts of one request."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.attempts = 0

    @property
    def is_last(self) -> bool:
        """Say whether there are to be no more attempts."""
        return self.attempts >= ATTEMPTS - 1

    def wait(self, retry_after: str = "") -> bool:
        """Sleep before the next attempt; False if there is to be none.

        Raises:
            StoppedError: the caller asked to stop.
        """
        self.attempts += 1
        if self.attempts >= ATTEMPTS:
            return False
        pause_s = _FIRST_PAUSE_S * 2 ** (self.attempts - 1) * random.uniform(0.8, 1.2)
        pause_s = min(max(pause_s, _seconds(retry_after)), _LONGEST_PAUSE_S)
        if self._stop.wait(pause_s):
            raise StoppedError
        return True


class Pace:
    """Sees that a body keeps coming: a byte now and then is no answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._since = time.monotonic()
        self._count = 0

    def count(self, size: int) -> None:
        """Hear that `size` more bytes have come.

        Raises:
            ReadTimeoutError: too few have, for a while.
        """
        self._count += size
        passed_s = time.monotonic() - self._since
        if passed_s < _PACE_S:
            return
        if self._count < _LEAST_PACE * passed_s:
            raise ReadTimeoutError(cast("Any", None), self._url, "the body comes too slowly")
        self._since, self._count = self._since + passed_s, 0


class Connection:
    """Sends requests on behalf of one caller, until `stop` is set."""

    def __init__(self, pools: Pools, settings: HostSettings, stop: threading.Event) -> None:
        self._pools = pools
        self._settings = settings
        self.stop = stop

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Give the answer, its body still to be read; who gets it closes it.

        Credentials in `headers` go to the host of `url` only, not where it redirects to.

        Raises:
            RegistryUnreachableError: no answer.
            RegistryError: redirects that lead nowhere, or to who wants credentials.
            StoppedError: `stop` was set.
        """
        pause = Pause(self.stop)
        while True:
            if self.stop.is_set():
                raise StoppedError
            try:
                response = self._follow(method, url, headers, body)
            except HTTPError as err:
                is_passing = isinstance(err, BROKEN) and not isinstance(err, NameResolutionError)
                if isinstance(err, NewConnectionError) and pause.attempts >= _REFUSALS:
                    is_passing = False  # nobody is there: that rarely changes within seconds
                if is_passing and pause.wait():
                    continue
                raise unreachable(url, err) from err
            if response.status not in AGAIN or pause.is_last:
                return response
            finish(response)
            pause.wait(response.headers.get("Retry-After", ""))

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None
    ) -> urllib3.BaseHTTPResponse:
        """Send a body that can be read once: no second attempt is made here.

        Raises:
            HTTPError: no answer.
        """
        return self._send(method, url, {**_AGENT, **headers}, body)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Body | None
    ) -> urllib3.BaseHTTPResponse:
        return self._pools.get(self._settings, url).request(
            method,
            url,
            headers=headers,
            body=cast("Any", body),  # it reads what has `read`
            retries=False,
            redirect=False,
            timeout=_TIMEOUT,
            preload_content=False,
            decode_content=False,
        )

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        sent, first = {**_AGENT, **headers}, url
        for _ in range(_MAX_REDIRECTS):
            response = self._send(method, url, sent, body)
            if response.status == 401 and not is_same_origin(url, first):
                # Its challenge is not to be answered with what we have for the first one.
                finish(response)
                host, other = urlsplit(first).netloc, urlsplit(url).netloc
                raise RegistryError(f"{host}: leads to {other}, which wants credentials")
            target = response.headers.get("Location", "")
            is_safe = method in ("GET", "HEAD") or response.status in _SAME_METHOD
            if response.status not in _REDIRECTS or not target or not is_safe:
                return response
            finish(response)
            after = urljoin(url, target)
            if not is_same_origin(after, url):
                sent.pop("Authorization", None)
            url = after
        raise RegistryError(f"{urlsplit(url).netloc}: too many redirects")


def is_same_origin(url: str, other: str) -> bool:
    """Say whether two URLs have the same scheme, host and port: only then credentials go along."""
    return _origin(url) == _origin(other)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    return parts.scheme, (parts.hostname or "").lower(), port


def finish(response: urllib3.BaseHTTPResponse) -> None:
    """End a response whose body does not matter.

    The connection may be used again, unless the body is long.
    """
    try:
        left = _MAX_DRAINED
        while left > 0 and (data := response.read1(left, decode_content=False)):
            left -= len(data)
        if left <= 0:
            response.close()
    except HTTPError:
        response.close()
    finally:
        response.release_conn()


def _seconds(retry_after: str) -> float:
    """Read `Retry-After`, seconds or a date; 0 if it is neither.

    Spec: RFC 9110, section 10.2.3.
    """
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def unreachable(url: str, err: BaseException) -> RegistryUnreachableError:
    """Give the error for a request without an answer."""
    host = urlsplit(url).netloc
    reason: BaseException = err
    while isinstance(reason, MaxRetryError | ProxyError) and _inner(reason) is not None:
        reason = _inner(reason) or reason
    hint = None
    if isinstance(reason, SSLError):
        hint = (
            "its certificate is not trusted: name the authority in `ca`, or set `insecure` or "
            f'`http` under [registry."{host}"] in registries.toml'
        )
    elif isinstance(reason, NewConnectionError):
        hint = "is the name right, and is the network there?"
    elif isinstance(reason, LocationParseError):
        hint = "the address cannot be understood"
    return RegistryUnreachableError(f"{host}: {describe(reason)}", hint=hint)


def _inner(err: MaxRetryError | ProxyError) -> BaseException | None:
    return err.reason if isinstance(err, MaxRetryError) else err.original_error


def describe(err: BaseException) -> str:
    """Say in few words what broke a connection."""
    cause = err.__cause__ or (err.args[-1] if err.args else None)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    if isinstance(err, ReadTimeoutError | ConnectTimeoutError):
        return "no answer in time"
    if isinstance(err, ProtocolError) and isinstance(cause, Exception):
        return str(cause).lower()
    text = str(err)
    return text.rpartition(": ")[2].lower() if isinstance(err, NewConnectionError) else text
