"""Workers, versions and cache records as messages."""

from __future__ import annotations

from collections.abc import Sequence

from torana.core.cache.policy import GCPolicy
from torana.core.cache.usage import UsageRecord
from torana.gateway.daemon.identity import PACKAGE, VERSION, Identity
from torana.gateway.daemon.statusmessages import timestamp
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol import ops_pb2, worker_pb2


def worker_message(identity: Identity, policies: Sequence[GCPolicy]) -> worker_pb2.WorkerRecord:
    """Give the worker's record."""
    return worker_pb2.WorkerRecord(
        ID=identity.id,
        Labels=dict(identity.labels),
        platforms=[
            ops_pb2.Platform(
                Architecture=platform.architecture,
                OS=platform.os,
                Variant=platform.variant,
                OSVersion=platform.os_version,
                OSFeatures=list(platform.os_features),
            )
            for platform in identity.platforms
        ],
        GCPolicy=[
            worker_pb2.GCPolicy(
                all=policy.is_all,
                keepDuration=round(policy.keep_duration_s * 1e9),
                reservedSpace=policy.reserved_bytes,
                maxUsedSpace=policy.max_used_bytes,
                minFreeSpace=policy.min_free_bytes,
                filters=policy.filters,
            )
            for policy in policies
        ],
        BuildkitVersion=version_message(),
    )


def version_message() -> worker_pb2.BuildkitVersion:
    """Give the daemon's version."""
    return worker_pb2.BuildkitVersion(package=PACKAGE, version=VERSION)


def usage_message(usage: UsageRecord) -> pb.UsageRecord:
    """Give a cache record."""
    return pb.UsageRecord(
        ID=usage.id,
        Mutable=usage.is_mutable,
        InUse=usage.is_in_use,
        Shared=usage.is_shared,
        Size=usage.size_bytes,
        CreatedAt=timestamp(usage.created),
        LastUsedAt=timestamp(usage.last_used),
        UsageCount=usage.usage_count,
        Description=usage.description,
        RecordType=usage.record_type.value,
        Parents=usage.parents,
    )
