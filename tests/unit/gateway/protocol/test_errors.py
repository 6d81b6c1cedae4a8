"""Errors to status and back."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from torana.core.errors import (
    BuildFileError,
    CorruptError,
    NotFoundError,
    SourceExcerpt,
    SourceRange,
    ToranaError,
    UnsupportedError,
    UserError,
)
from torana.core.oci.digest import Digest
from torana.core.ops.exec.errors import ExecError, SecretNotFoundError
from torana.core.solver.failure import SolveError
from torana.core.solver.vertex import Vertex
from torana.frontends.kit.subrequests import UnsupportedFrontendCapError, UnsupportedRequestError
from torana.gateway.daemon.builds import NoSuchJobError
from torana.gateway.protocol import details, errdefs_pb2, errors
from torana.gateway.protocol.errors import RemoteError, error_of, status_of
from torana.gateway.protocol.gateway_pb2 import ExitMessage
from torana.gateway.protocol.status_pb2 import Status

EXCERPT = SourceExcerpt("Dockerfile", b"FROM a\nRUN x\n", (SourceRange.lines("Dockerfile", 2),))
OURS = errors.TORANA_DETAIL


def failed_step() -> SolveError:
    digest = Digest.of(b"op")
    vertex = Vertex(digest=digest, name="RUN x", inputs=(), sys=None, sources=(EXCERPT,))
    return SolveError(vertex, ExecError("process failed: exit code: 3", exit_code=3))


def test_failed_step_has_source_vertex_and_exit_code() -> None:
    status = status_of(failed_step())
    assert (status.code, status.message) == (errors.UNKNOWN, "process failed: exit code: 3")
    source, vertex, exit_message = details.unpacked(status)
    assert isinstance(source, errdefs_pb2.Source)
    assert (source.info.data, source.ranges[0].start.line) == (EXCERPT.data, 2)
    assert vertex == errdefs_pb2.Vertex(digest=str(Digest.of(b"op")))
    assert exit_message == ExitMessage(Code=3)


def test_failed_step_comes_out_with_all_that_is_known() -> None:
    error = error_of(status_of(failed_step()))
    remote = error.__cause__
    assert isinstance(remote, RemoteError)
    assert (remote.exit_code, remote.vertex) == (3, str(Digest.of(b"op")))
    assert error.sources == (EXCERPT,)


def test_definition_of_the_build_file_travels() -> None:
    class Loader:
        def encode(self) -> bytes:
            return b"\x0a\x03abc"

    excerpt = SourceExcerpt("f", b"x", (), definition=Loader())
    error = error_of(status_of(UserError("m", sources=[excerpt])))
    (came,) = error.sources
    assert came.definition is not None
    assert came.definition.encode() == b"\x0a\x03abc"


@pytest.mark.parametrize(
    "error",
    [
        ToranaError("x"),
        UserError("x", hint="do y"),
        NotFoundError("x"),
        UnsupportedError("x"),
        CorruptError("x"),
        SecretNotFoundError("secret `a`: not found"),
        NoSuchJobError("no such job a"),
        BuildFileError("x", SourceRange.lines("f", 2, 3), hint="h", sources=[EXCERPT]),
    ],
)
def test_ours_come_out_as_the_same_class(error: ToranaError) -> None:
    came = error_of(status_of(error))
    assert type(came) is type(error)
    assert (came.message, came.hint, came.sources) == (error.message, error.hint, error.sources)
    assert getattr(came, "at", None) == getattr(error, "at", None)


@pytest.mark.parametrize("error", [UnsupportedRequestError("q"), UnsupportedFrontendCapError("q")])
def test_unsupported_requests_have_the_typed_detail(error: ToranaError) -> None:
    status = status_of(error)
    (detail,) = details.unpacked(status)
    assert isinstance(detail, errdefs_pb2.Subrequest | errdefs_pb2.FrontendCap)
    assert detail.name == "q"
    assert isinstance(error_of(status), UnsupportedError)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UnsupportedFrontendCapError("q"), errors.UNIMPLEMENTED, None),
        (NoSuchJobError("no such job x"), errors.NOT_FOUND, None),
        (NotFoundError("x"), errors.UNKNOWN, "x"),
        (asyncio.CancelledError(), errors.CANCELLED, "context canceled"),
        (TimeoutError("slow"), errors.DEADLINE_EXCEEDED, "slow"),
        (OSError(errno.ENOSPC, "No space left on device", "f"), errors.RESOURCE_EXHAUSTED, None),
        (OSError(errno.EIO, "Input/output error"), errors.INTERNAL, "input/output error"),
        (ValueError(), errors.UNKNOWN, "ValueError"),
        (BaseExceptionGroup("g", [ValueError("a"), UserError("b")]), errors.UNKNOWN, "b"),
    ],
)
def test_codes(error: BaseException, code: int, message: str | None) -> None:
    status = status_of(error)
    assert status.code == code
    if message is not None:
        assert status.message == message


def test_unknown_details_are_kept_byte_for_byte() -> None:
    unknown = AnyMessage(type_url="example.com/x.Y+json", value=b"\xff not json")
    status = Status(code=9, message="m", details=[unknown])
    assert status_of(error_of(status)) == status
    wrapped = UserError("while doing: m")
    wrapped.__cause__ = error_of(status)
    again = status_of(wrapped)
    assert (again.code, again.message) == (9, "while doing: m")
    assert unknown in again.details


def test_wrapping_does_not_repeat_details() -> None:
    remote = error_of(status_of(failed_step()))
    wrapped = UserError("outer", sources=remote.sources)
    wrapped.__cause__ = remote
    found = list(details.unpacked(status_of(wrapped)))
    assert [type(d).__name__ for d in found] == ["Source", "Vertex", "ExitMessage"]


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"[]", b'{"code":"NO_SUCH_CODE"}', b'{"code":3}', b'{"code":"INVALID","hint":3}'],
)
def test_damaged_detail_of_ours_is_no_obstacle(value: bytes) -> None:
    status = Status(code=2, message="m", details=[AnyMessage(type_url=OURS, value=value)])
    error = error_of(status)
    assert error.message == "m"
    assert type(error) is RemoteError


def test_damaged_details_are_skipped() -> None:
    url = "github.com/moby/buildkit/errdefs.Source+json"
    broken: Any = [AnyMessage(type_url=url, value=b"\xff"), AnyMessage(type_url=url, value=b"[]")]
    assert error_of(Status(code=2, message="m", details=broken)).sources == ()


def test_trailer_that_cannot_be_read_is_code_and_text() -> None:
    assert errors.decode_status(b"\xff\xff", 5, "gone") == Status(code=5, message="gone")
    assert isinstance(error_of(Status(code=5, message="gone")), NotFoundError)
