"""The client's values as messages of LLBBridge, and back. Pure.

Values that LLB knows, too (mounts, platforms, definitions), take the way over LLB's own codec: its
bytes are canonical, and definitions keep the bytes that they came with.

Spec: `gateway.proto`.
"""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from torana.core.errors import Position, SourceRange
from torana.core.llb import ops as o
from torana.core.llb.codec import decode, encode
from torana.core.llb.definition import Definition
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.gateway.client import client as c
from torana.gateway.client.policy_messages import policies_of, policy_message
from torana.gateway.protocol import caps_pb2, fsutil_pb2, gateway_pb2, ops_pb2, worker_pb2

T = TypeVar("T")
M = TypeVar("M", bound=Message)

ToRef = Callable[[c.Reference | None], Awaitable[gateway_pb2.Ref]]
FromRef = Callable[[gateway_pb2.Ref], c.Reference | None]

# Go's os.FileMode keeps the kinds of files in other bits than the system.
_GO_KINDS: Final = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}
_GO_BITS: Final = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}
_KINDS: Final = {bits: kind for kind, bits in _GO_KINDS.items()}
_KIND_MASK: Final = 1 << 31 | 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21
_DEPRECATED_CAPS: Final = frozenset({"solve.inlinereturn"})
_ATTESTATIONS: Final = {
    "in-toto": gateway_pb2.AttestationKind.InToto,
    "bundle": gateway_pb2.AttestationKind.Bundle,
}
_ATTESTATION_NAMES: Final = {number: name for name, number in _ATTESTATIONS.items()}


def to_message(value: object, kind: type[M]) -> M:
    """Give a value of `core.llb` as the generated message of the same name."""
    return kind.FromString(encode(value))


def from_message(message: Message, kind: type[T]) -> T:
    """Read a generated message as the value of `core.llb` of the same name.

    Raises:
        InvalidLLBError: its values are out of range.
    """
    return decode(kind, message.SerializeToString())


def definition_message(definition: Definition) -> ops_pb2.Definition:
    return to_message(definition, ops_pb2.Definition)


def definition_of(message: ops_pb2.Definition) -> Definition:
    return from_message(message, Definition)


def platform_of(message: Any, field: str) -> Platform | None:
    """Read a platform that may be absent."""
    return from_message(getattr(message, field), Platform) if message.HasField(field) else None


# Files


def stat_message(value: c.Stat) -> fsutil_pb2.Stat:
    mode = _GO_KINDS.get(stat.S_IFMT(value.mode), 1 << 19) | value.mode & 0o777
    for bit, go_bit in _GO_BITS.items():
        if value.mode & bit:
            mode |= go_bit
    return fsutil_pb2.Stat(
        path=value.path,
        mode=mode,
        uid=value.uid,
        gid=value.gid,
        size=value.size,
        modTime=value.mtime_ns,
        linkname=value.linkname,
        devmajor=value.devmajor,
        devminor=value.devminor,
        xattrs=value.xattrs,
    )


def stat_of(message: fsutil_pb2.Stat) -> c.Stat:
    mode = _KINDS.get(message.mode & _KIND_MASK, 0) | message.mode & 0o777
    for bit, go_bit in _GO_BITS.items():
        if message.mode & go_bit:
            mode |= bit
    return c.Stat(
        path=message.path,
        mode=mode,
        uid=message.uid,
        gid=message.gid,
        size=message.size,
        mtime_ns=message.modTime,
        linkname=message.linkname,
        devmajor=message.devmajor,
        devminor=message.devminor,
        xattrs=dict(message.xattrs),
    )


# Solving


def solve_message(request: c.SolveRequest) -> gateway_pb2.SolveRequest:
    message = gateway_pb2.SolveRequest(
        Frontend=request.frontend,
        FrontendOpt=request.frontend_opt,
        allowResultReturn=True,
        allowResultArrayRef=True,
        Evaluate=request.evaluate,
        SourcePolicies=[policy_message(each) for each in request.source_policies],
        CacheImports=[
            gateway_pb2.CacheOptionsEntry(Type=entry.type, Attrs=entry.attrs)
            for entry in request.cache_imports
        ],
    )
    if request.definition is not None:
        message.Definition.CopyFrom(definition_message(request.definition))
    for name, definition in request.frontend_inputs.items():
        message.FrontendInputs[name].CopyFrom(definition_message(definition))
    return message


def solve_request_of(message: gateway_pb2.SolveRequest) -> c.SolveRequest:
    """Read a request.

    Raises:
        InvalidPolicyError: it brings policies that say what is not known.
    """
    return c.SolveRequest(
        source_policies=policies_of(message.SourcePolicies),
        definition=definition_of(message.Definition) if message.HasField("Definition") else None,
        frontend=message.Frontend,
        frontend_opt=dict(message.FrontendOpt),
        frontend_inputs=definitions_of(message.FrontendInputs),
        cache_imports=[
            c.CacheImport(type=entry.Type, attrs=dict(entry.Attrs))
            for entry in message.CacheImports
        ],
        evaluate=message.Evaluate,
    )


def definitions_of(messages: Mapping[str, ops_pb2.Definition]) -> dict[str, Definition]:
    return {name: definition_of(message) for name, message in messages.items()}


async def result_message(result: c.Result, to_ref: ToRef) -> gateway_pb2.Result:
    """Give a result as message; `to_ref` names references."""
    message = gateway_pb2.Result(metadata=result.metadata)
    if result.refs:
        for key, reference in result.refs.items():
            message.refs.refs[key].CopyFrom(await to_ref(reference))
    else:
        message.ref.CopyFrom(await to_ref(result.ref))
    for key, attestations in result.attestations.items():
        group = message.attestations[key]
        for each in attestations:
            group.attestation.add(
                kind=_ATTESTATIONS[each.kind],
                metadata=each.metadata,
                ref=await to_ref(each.ref),
                path=each.path,
                inTotoPredicateType=each.predicate_type,
                inTotoSubjects=[
                    gateway_pb2.InTotoSubject(
                        kind=gateway_pb2.InTotoSubjectKind.Raw
                        if subject.digests
                        else gateway_pb2.InTotoSubjectKind.Self,
                        digest=subject.digests,
                        name=subject.name,
                    )
                    for subject in each.subjects
                ],
            )
    return message


def result_of(message: gateway_pb2.Result, from_ref: FromRef) -> c.Result:
    """Read a result in its new or its old form; `from_ref` finds references."""
    ref: c.Reference | None = None
    refs: dict[str, c.Reference | None] = {}
    match message.WhichOneof("result"):
        case "ref":
            ref = from_ref(message.ref)
        case "refs":
            refs = {key: from_ref(entry) for key, entry in message.refs.refs.items()}
        case "refDeprecated":
            ref = from_ref(gateway_pb2.Ref(id=message.refDeprecated))
        case "refsDeprecated":
            refs = {
                key: from_ref(gateway_pb2.Ref(id=id))
                for key, id in message.refsDeprecated.refs.items()
            }
        case None:
            pass
    return c.Result(
        ref=ref,
        refs=refs,
        metadata=dict(message.metadata),
        attestations={
            key: tuple(_attestation(each, from_ref) for each in group.attestation)
            for key, group in message.attestations.items()
        },
    )


def _attestation(message: gateway_pb2.Attestation, from_ref: FromRef) -> c.Attestation:
    return c.Attestation(
        kind=_ATTESTATION_NAMES.get(message.kind, "in-toto"),
        ref=from_ref(message.ref) if message.HasField("ref") else None,
        path=message.path,
        predicate_type=message.inTotoPredicateType,
        metadata=dict(message.metadata),
        subjects=[
            c.AttestationSubject(name=subject.name, digests=tuple(subject.digest))
            for subject in message.inTotoSubjects
        ],
    )


# What a frontend is told


def caps_messages(ids: frozenset[str]) -> list[caps_pb2.APICap]:
    return [
        caps_pb2.APICap(ID=id, Enabled=True, Deprecated=id in _DEPRECATED_CAPS)
        for id in sorted(ids)
    ]


def caps_of(messages: Sequence[caps_pb2.APICap]) -> frozenset[str]:
    return frozenset(message.ID for message in messages if message.Enabled)


def worker_message(worker: c.Worker) -> worker_pb2.WorkerRecord:
    platforms = [to_message(platform, ops_pb2.Platform) for platform in worker.platforms]
    return worker_pb2.WorkerRecord(ID=worker.id, Labels=worker.labels, platforms=platforms)


def worker_of(message: worker_pb2.WorkerRecord) -> c.Worker:
    return c.Worker(
        id=message.ID,
        labels=dict(message.Labels),
        platforms=[from_message(platform, Platform) for platform in message.platforms],
    )


# Sources


def source_message(
    found: c.ResolvedSource, *, no_config: bool
) -> gateway_pb2.ResolveSourceMetaResponse:
    source = o.SourceOp(identifier=found.identifier, attrs=found.attrs)
    response = gateway_pb2.ResolveSourceMetaResponse(Source=to_message(source, ops_pb2.SourceOp))
    if found.image is not None:
        response.Image.Digest = found.image.digest
        if not no_config:
            response.Image.Config = found.image.config
    if found.git_checksum is not None:
        response.Git.Checksum = found.git_checksum
        response.Git.Ref = found.git_ref
        response.Git.CommitChecksum = found.git_commit_checksum
        response.Git.CommitObject = found.git_commit_object or b""
        response.Git.TagObject = found.git_tag_object or b""
    if found.http_digest is not None:
        response.HTTP.Checksum = found.http_digest
        response.HTTP.Filename = found.http_filename or ""
        if found.http_last_modified is not None:
            response.HTTP.LastModified.CopyFrom(Timestamp(seconds=found.http_last_modified))
    return response


def source_of(response: gateway_pb2.ResolveSourceMetaResponse, ref: str) -> c.ResolvedSource:
    """Read the answer to a lookup; `ref` is the name of the image that was asked for."""
    image = None
    if response.HasField("Image"):
        image = c.ResolvedImage(
            ref=ref, digest=Digest(response.Image.Digest), config=response.Image.Config
        )
    git, http = response.Git, response.HTTP
    has_http = response.HasField("HTTP")
    return c.ResolvedSource(
        identifier=response.Source.identifier,
        attrs=dict(response.Source.attrs),
        image=image,
        git_checksum=git.Checksum if response.HasField("Git") else None,
        git_ref=git.Ref,
        git_commit_checksum=git.CommitChecksum,
        git_commit_object=git.CommitObject or None,
        git_tag_object=git.TagObject or None,
        http_digest=Digest(http.Checksum) if has_http and http.Checksum else None,
        http_filename=http.Filename if has_http else None,
        http_last_modified=http.LastModified.seconds if http.HasField("LastModified") else None,
    )


# Warnings


def warning_message(warning: c.Warning) -> gateway_pb2.WarnRequest:
    message = gateway_pb2.WarnRequest(
        digest=warning.vertex,
        level=warning.level,
        short=warning.short.encode(),
        detail=[line.encode() for line in warning.detail],
        url=warning.url,
    )
    if warning.ranges:
        message.info.filename = warning.ranges[0].filename
        message.info.data = warning.data
    for each in warning.ranges:
        start = ops_pb2.Position(line=each.start.line, character=each.start.column)
        end = ops_pb2.Position(line=each.end.line, character=each.end.column)
        message.ranges.add(start=start, end=end)
    return message


def warning_of(message: gateway_pb2.WarnRequest) -> c.Warning:
    """Read a warning.

    Raises:
        UserError: its digest is none.
    """
    return c.Warning(
        vertex=Digest(message.digest),
        short=message.short.decode(errors="replace"),
        level=message.level or 1,
        detail=[line.decode(errors="replace") for line in message.detail],
        url=message.url,
        ranges=[
            SourceRange(
                message.info.filename,
                Position(each.start.line, each.start.character),
                Position(each.end.line, each.end.character),
            )
            for each in message.ranges
        ],
        data=message.info.data,
    )
