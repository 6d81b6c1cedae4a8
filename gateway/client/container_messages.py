"""Containers and processes as messages of LLBBridge, and back. Pure.

Spec: `NewContainerRequest`, `InitMessage` in `gateway.proto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

from torana.core.errors import UserError
from torana.core.llb import ops as o
from torana.gateway.client import client as c
from torana.gateway.client import containers as k
from torana.gateway.client.messages import ToRef, from_message, platform_of, to_message
from torana.gateway.protocol import gateway_pb2, ops_pb2

E = TypeVar("E", bound=IntEnum)


async def container_message(
    id: str, spec: k.ContainerSpec, to_ref: ToRef
) -> gateway_pb2.NewContainerRequest:
    message = gateway_pb2.NewContainerRequest(
        ContainerID=id,
        Network=int(spec.network),  # type: ignore[arg-type]  # the same numbers
        extraHosts=[to_message(host, ops_pb2.HostIP) for host in spec.extra_hosts],
        hostname=spec.hostname,
    )
    if spec.platform is not None:
        message.platform.CopyFrom(to_message(spec.platform, ops_pb2.Platform))
    if spec.constraints is not None:
        message.constraints.CopyFrom(to_message(spec.constraints, ops_pb2.WorkerConstraints))
    for mount in spec.mounts:
        result_id = mount.result_id
        if mount.reference is not None:
            result_id = (await to_ref(mount.reference)).id
        value = o.Mount(
            input=o.EMPTY,
            selector=mount.selector,
            dest=mount.dest,
            output=o.SKIP_OUTPUT,
            readonly=mount.readonly,
            mount_type=mount.mount_type,
            tmpfs_opt=mount.tmpfs_opt,
            cache_opt=mount.cache_opt,
            secret_opt=mount.secret_opt,
            ssh_opt=mount.ssh_opt,
            result_id=result_id,
        )
        message.Mounts.append(to_message(value, ops_pb2.Mount))
    return message


def container_spec_of(
    message: gateway_pb2.NewContainerRequest, references: Mapping[str, c.Reference]
) -> k.ContainerSpec:
    """Read a container; a `resultID` that is no reference may name a result of a failed solve."""
    mounts = []
    for each in message.Mounts:
        mount = from_message(each, o.Mount)
        reference = references.get(mount.result_id)
        mounts.append(
            k.ContainerMount(
                dest=mount.dest,
                reference=reference,
                result_id="" if reference is not None else mount.result_id,
                selector=mount.selector,
                readonly=mount.readonly,
                mount_type=_member(o.MountType, mount.mount_type),
                tmpfs_opt=mount.tmpfs_opt,
                cache_opt=mount.cache_opt,
                secret_opt=mount.secret_opt,
                ssh_opt=mount.ssh_opt,
            )
        )
    return k.ContainerSpec(
        mounts=mounts,
        network=_member(o.NetMode, message.Network),
        platform=platform_of(message, "platform"),
        constraints=from_message(message.constraints, o.Constraints)
        if message.HasField("constraints")
        else None,
        hostname=message.hostname,
        extra_hosts=[from_message(host, o.HostIP) for host in message.extraHosts],
    )


def init_message(container_id: str, process: k.ProcessSpec) -> gateway_pb2.InitMessage:
    meta = o.Meta(
        args=tuple(process.args),
        env=tuple(process.env),
        cwd=process.cwd,
        user=process.user,
        remove_mount_stubs_recursive=process.remove_mount_stubs_recursive,
    )
    return gateway_pb2.InitMessage(
        ContainerID=container_id,
        Meta=to_message(meta, ops_pb2.Meta),
        Fds=sorted(process.descriptors),
        Tty=process.is_terminal,
        Security=int(process.security),  # type: ignore[arg-type]  # the same numbers
        secretenv=[to_message(secret, ops_pb2.SecretEnv) for secret in process.secret_env],
    )


def process_spec_of(message: gateway_pb2.InitMessage) -> k.ProcessSpec:
    meta = from_message(message.Meta, o.Meta)
    return k.ProcessSpec(
        args=meta.args,
        env=meta.env,
        cwd=meta.cwd,
        user=meta.user,
        is_terminal=message.Tty,
        security=_member(o.SecurityMode, message.Security),
        secret_env=[from_message(secret, o.SecretEnv) for secret in message.secretenv],
        remove_mount_stubs_recursive=meta.remove_mount_stubs_recursive,
        descriptors=frozenset(message.Fds),
    )


def _member(kind: type[E], number: int) -> E:
    try:
        return kind(number)
    except ValueError:
        raise UserError(f"unknown {kind.__name__}: {number}") from None
