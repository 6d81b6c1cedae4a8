"""RUN: the process, its mounts and what is shown of it."""

from __future__ import annotations

import posixpath
from typing import Final

from torana.core.errors import BuildFileError
from torana.core.llb.ops import CacheSharing, NetMode, SecurityMode
from torana.frontends.dockerfile import paths
from torana.frontends.dockerfile.actions import (
    BindMount,
    CacheMount,
    InlineMount,
    Mount,
    RunProcess,
    SecretMount,
    SshMount,
    TmpfsMount,
)
from torana.frontends.dockerfile.evaluation import Evaluation
from torana.frontends.dockerfile.heredoc import Heredoc, parse_heredoc
from torana.frontends.dockerfile.instructions import Run
from torana.frontends.dockerfile.mounts import MountFields, parse_mount
from torana.frontends.dockerfile.outline import OutlineMount
from torana.frontends.dockerfile.stage import Stage

_PIPES: Final = "/dev/pipes/"
_HIDDEN: Final = "****"


def run(ev: Evaluation, instruction: Run) -> None:
    mounts: list[Mount] = []
    args = _args(ev, instruction, mounts)
    fields = [parse_mount(text, ev.expand) for text in instruction.mounts]
    for number, mount in enumerate(fields):
        origin = ev.step.sources[number] if number < len(ev.step.sources) else None
        mounts.append(_mount(ev, mount, origin))
    ev.stage.used.add("/")
    shown = _name(ev, instruction, mounts)
    environment = ev.stage.environment
    ev.act(
        RunProcess(
            step=ev.describe(shown, ev.stage.tree_platform),
            args=args,
            env=environment.lines(),
            cwd=ev.stage.work_dir,
            user=ev.stage.user,
            mounts=mounts,
            network=_network(ev, instruction.network),
            security=SecurityMode.INSECURE
            if instruction.security == "insecure"
            else SecurityMode.SANDBOX,
            devices=instruction.devices,
            platform=ev.stage.tree_platform,
        )
    )
    declared = ev.stage.args.entries
    given = [f"{name}={environment.get(name, declared[name] or '')}" for name in declared]
    counted = [f"|{len(given)}", *given] if given else []
    ev.history(" ".join(("RUN", *counted, *args, "# buildkit")), layer=True)


def _network(ev: Evaluation, name: str) -> NetMode:
    given = {"none": NetMode.NONE, "host": NetMode.HOST}
    return given.get(name, ev.settings.options.network)


def _script(instruction: Run) -> Heredoc | None:
    """Give the heredoc that is the whole command, if it is one."""
    if not instruction.heredocs or not instruction.is_shell or not instruction.args:
        return None
    return instruction.heredocs[0] if parse_heredoc(instruction.args[0]) is not None else None


def _args(ev: Evaluation, instruction: Run, mounts: list[Mount]) -> tuple[str, ...]:
    if not instruction.is_shell:
        return instruction.args
    text = instruction.args[0] if instruction.args else ""
    script = _script(instruction)
    if script is None:
        bodies = (f"\n{heredoc.content}{heredoc.name}" for heredoc in instruction.heredocs)
        text = "".join((text, *bodies))
    elif script.chomped.startswith("#!") and ev.image.platform.os != "windows":
        data = script.chomped.encode("utf-8", "surrogateescape")
        mounts.append(InlineMount(target=_PIPES, name=script.name, data=data))
        text = posixpath.join(_PIPES, script.name)
    else:
        text = script.chomped
    return (*ev.shell, text)


def _name(ev: Evaluation, instruction: Run, mounts: list[Mount]) -> str:
    text = instruction.original
    if (script := _script(instruction)) is not None:
        lines = script.content.strip().replace("\r\n", "\n").split("\n")
        text += f" ({lines[0]}{'...' if len(lines) > 1 else ''})"
    secrets = (mount.env for mount in mounts if isinstance(mount, SecretMount))
    hidden = {name: _HIDDEN for name in secrets if name is not None}
    environment = {**ev.stage.environment, **hidden}
    try:
        expander = ev.settings.expander
        return expander.expand(text, environment, raw_quotes=True, skip_unset=True).text
    except BuildFileError:
        return text


def _mount(ev: Evaluation, mount: MountFields, origin: Stage | None) -> Mount:
    stage = origin if mount.origin else None
    if stage is not None and not stage.is_evaluated:
        raise BuildFileError(
            f'cannot mount from stage "{mount.origin}" to "{mount.target}", stage needs to be '
            "defined before current command"
        )
    if mount.type == "secret":
        return _secret(ev, mount)
    if mount.type == "ssh":
        return _agent(ev, mount)
    target = mount.target
    if not paths.is_absolute(target, ev.stage.system):
        target = paths.join("/", ev.stage.work_dir, target)
    if target == "/":
        raise BuildFileError('invalid mount target "/"')
    source = paths.rooted(mount.source)
    if stage is not None:
        stage.used.add(source)
    elif mount.type != "cache":  # memory counts, too, though it reads nothing
        ev.settings.used.add(source)
    if mount.type == "tmpfs":
        return TmpfsMount(target, mount.size_bytes)
    if mount.type == "cache":
        return _cache(ev, mount, target, stage)
    return BindMount(target=target, stage=stage, source=source, read_only=mount.is_read_only)


def _cache(ev: Evaluation, mount: MountFields, target: str, stage: Stage | None) -> CacheMount:
    namespace = ev.settings.build_args.get("BUILDKIT_CACHE_MOUNT_NS", "")
    made = None
    if not mount.source and (mount.mode, mount.uid, mount.gid) != (None, None, None):
        mode = 0o755 if mount.mode is None else mount.mode
        made = (mode, mount.uid or 0, mount.gid or 0)
    return CacheMount(
        target=target,
        id=f"{namespace}/{mount.id or paths.clean(mount.target)}",
        sharing=CacheSharing[(mount.sharing or "shared").upper()],
        stage=stage,
        source=paths.rooted(mount.source),
        read_only=mount.is_read_only,
        made=made,
    )


def _secret(ev: Evaluation, mount: MountFields) -> SecretMount:
    name = mount.source or mount.id or paths.base(mount.target)
    target = mount.target
    if not target and mount.env is None:
        target = f"/run/secrets/{paths.base(name)}"
    _note(ev.stage.outline.secrets, ev, name, mount)
    return SecretMount(
        id=name,
        target=target,
        env=mount.env,
        uid=mount.uid or 0,
        gid=mount.gid or 0,
        mode=0o400 if mount.mode is None else mount.mode,
        is_optional=not mount.is_required,
    )


def _agent(ev: Evaluation, mount: MountFields) -> SshMount:
    if mount.source:
        raise BuildFileError("ssh does not support source")
    _note(ev.stage.outline.ssh, ev, mount.id or "default", mount)
    return SshMount(
        id=mount.id,
        target=mount.target,
        uid=mount.uid or 0,
        gid=mount.gid or 0,
        mode=0o600 if mount.mode is None else mount.mode,
        is_optional=not mount.is_required,
    )


def _note(uses: dict[str, OutlineMount], ev: Evaluation, name: str, mount: MountFields) -> None:
    ranges = ev.step.ranges
    uses.setdefault(name, OutlineMount(name=name, ranges=ranges, is_required=mount.is_required))
