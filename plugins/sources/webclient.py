"""`WebClient`: HTTP requests whose bodies are streamed, resumed where a server allows it.

Calls block and run in threads; `stop` ends them between chunks. Proxies are those of the
environment (`HTTPS_PROXY`, `NO_PROXY`, ...), certificates those that OpenSSL trusts.

What registries and other servers have in common is shared: open connections (`Pools`), pauses and
pace. The rest is not the same: here a body is resumed only with ranges and a validator, for there
is no digest to tell what it is; it may be packed; a URL may hold credentials; there is no
challenge to answer, and no push. One client for both would be mostly switches between the two.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import (
    HTTPError,
    IncompleteRead,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from torana import __version__
from torana.core.errors import ToranaError, UserError
from torana.core.records import dataclass
from torana.plugins.registry.connection import Pace, Pause, Pools, finish
from torana.plugins.registry.errors import StoppedError
from torana.plugins.registry.settings import HostSettings

_CHUNK: Final = 1 << 18
_RESUMES: Final = 5
_REDIRECTS: Final = 10
_AGAIN: Final = (429, 502, 503, 504)
_TIMEOUT: Final = urllib3.Timeout(connect=30.0, read=60.0)
_ANY_HOST: Final = HostSettings()  # those of registries are not for other servers
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-")


_pools = Pools()


class FetchError(ToranaError):
    """A server could not be reached, or did not give what was asked for."""

    code = "FETCH_FAILED"


class TooLargeError(UserError):
    """A body is larger than allowed."""

    code = "FETCH_TOO_LARGE"


def redacted(url: str) -> str:
    """Give `url` with the password of its user information replaced by `xxxxx`."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, host = parts.netloc.rpartition("@")[0].partition(":")[0], parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:xxxxx@{host}"))


@dataclass(frozen=True, slots=True)
class Answer:
    """Status line and headers of a response; header names in lower case."""

    status: int
    headers: Mapping[str, str]

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")


class WebClient:
    """Asks servers. One per download; `progress` takes (bytes so far, bytes in all or 0)."""

    def __init__(
        self,
        *,
        user_agent: str = f"torana/{__version__}",
        limit_bytes: int = 0,
        stop: threading.Event | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._user_agent = user_agent
        self._limit_bytes = limit_bytes
        self._stop = stop or threading.Event()
        self._progress = progress or (lambda current, total: None)

    def head(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Ask for the headers only.

        Raises:
            FetchError: no answer.
        """
        response = self._request("HEAD", url, {**headers, "Accept-Encoding": "gzip"})
        response.close()
        return _answer(response)

    def get(
        self, url: str, headers: Mapping[str, str], write: Callable[[int, bytes], None]
    ) -> Answer:
        """Fetch a body; `write(offset, data)` takes it, offset 0 meaning "from the beginning".

        A body sent with `Content-Encoding: gzip` is unpacked. Nothing is written for a status
        other than 200. A broken connection is taken up again where it stopped if the server lets
        us (ranges and a strong validator), else from the beginning, five times at most.

        Raises:
            FetchError: no answer, or it breaks off every time.
            TooLargeError: longer than `limit_bytes`.
            StoppedError: `stop` was set.
        """
        offset = 0
        first: Answer | None = None
        for attempt in range(_RESUMES + 1):
            asked = {"Accept-Encoding": "gzip", **headers}
            if first is not None and offset:
                asked |= {
                    "Accept-Encoding": "identity",
                    "Range": f"bytes={offset}-",
                    "If-Range": first.header("etag") or first.header("last-modified"),
                }
            response = self._request("GET", url, asked)
            answer = _answer(response)
            try:
                if offset and not _continues(answer, offset):
                    offset = 0
                if answer.status not in (200, 206):
                    return answer
                first = answer if first is None or not offset else first
                offset = self._receive(url, response, offset, write)
                return first
            except (ProtocolError, ReadTimeoutError) as err:
                if attempt == _RESUMES:
                    raise FetchError(
                        f"{redacted(url)}: the connection broke: {_reason(err)}"
                    ) from err
                offset = self._got if _is_resumable(answer) else 0
            except HTTPError as err:
                raise FetchError(f"{redacted(url)}: {_reason(err)}") from err
            finally:
                response.close()
        raise AssertionError("the last attempt returns or raises")

    def _receive(
        self,
        url: str,
        response: urllib3.BaseHTTPResponse,
        offset: int,
        write: Callable[[int, bytes], None],
    ) -> int:
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdigit() else 0
        self._got = offset
        if not offset:
            write(0, b"")
        # Not `stream`: it keeps what came before a break to itself.
        pace = Pace(url)
        while chunk := response.read1(_CHUNK, decode_content=True):
            pace.count(len(chunk))
            if self._stop.is_set():
                raise StoppedError
            if self._limit_bytes and self._got + len(chunk) > self._limit_bytes:
                raise TooLargeError(
                    f"{redacted(url)}: longer than {self._limit_bytes} bytes",
                )
            write(self._got, chunk)
            self._got += len(chunk)
            self._progress(self._got, total)
        return self._got

    _got = 0  # bytes written in the present attempt and those it continues

    def _request(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        parts = urlsplit(url)
        sent = {"User-Agent": self._user_agent, **headers}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            basic = urllib3.make_headers(basic_auth=user)["authorization"]
            sent.setdefault("Authorization", basic)
            url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        retries = urllib3.Retry(
            total=None,
            connect=2,
            read=2,
            redirect=_REDIRECTS,
            other=0,  # such as wrong certificates, which stay wrong
            backoff_factor=0.2,
            backoff_max=5,
            respect_retry_after_header=False,  # it would sleep as long as it is told to
        )
        pause = Pause(self._stop)
        while not self._stop.is_set():
            try:
                response = _pools.get(_ANY_HOST, url).request(
                    method,
                    url,
                    headers=sent,
                    retries=retries,
                    timeout=_TIMEOUT,
                    preload_content=False,
                )
            except HTTPError as err:
                raise FetchError(f"{redacted(url)}: {_reason(err)}", hint=_hint(err)) from err
            if response.status not in _AGAIN or pause.is_last:
                return response
            finish(response)
            pause.wait(response.headers.get("Retry-After", ""))
        raise StoppedError


def _answer(response: urllib3.BaseHTTPResponse) -> Answer:
    return Answer(
        response.status, {name.lower(): value for name, value in response.headers.items()}
    )


def _is_resumable(answer: Answer) -> bool:
    """Say whether a later range is certain to be of the same bytes."""
    etag = answer.header("etag")
    validator = (etag and not etag.startswith("W/")) or answer.header("last-modified")
    ranges = answer.header("accept-ranges").lower() == "bytes" or answer.status == 206
    return bool(validator) and ranges and not answer.header("content-encoding")


def _continues(answer: Answer, offset: int) -> bool:
    match = _CONTENT_RANGE.match(answer.header("content-range"))
    return answer.status == 206 and match is not None and int(match[1]) == offset


def _reason(err: BaseException) -> str:
    while isinstance(err, MaxRetryError) and err.reason is not None:
        err = err.reason
    if isinstance(err, IncompleteRead):
        return "it ended early"
    if isinstance(err, NewConnectionError | ProtocolError) and err.__cause__ is not None:
        return str(getattr(err.__cause__, "strerror", None) or err.__cause__).lower()
    text = str(err)
    return text.rpartition(": ")[2].lower() if isinstance(err, NewConnectionError) else text


def _hint(err: BaseException) -> str | None:
    reason: BaseException | None = err
    while isinstance(reason, MaxRetryError):
        reason = reason.reason
    if isinstance(reason, SSLError):
        return "trust a private authority with SSL_CERT_FILE=<file>"
    if isinstance(reason, NewConnectionError):
        return "is the name right, and is the network (or a proxy in HTTPS_PROXY) there?"
    return None
