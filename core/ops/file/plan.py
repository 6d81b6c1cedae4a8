"""What a file op has to do: which actions run, in which order, and which results are committed.

Pure. Numbers of trees ("slots") are LLB's: the op's inputs first, then results of actions, -1 none.
"""

from __future__ import annotations

from collections.abc import Sequence

from torana.core.errors import UserError
from torana.core.llb.ops import ChownOpt, Copy, FileAction, FileActionKind, Rm
from torana.core.records import dataclass


class InvalidFileOpError(UserError):
    """The indexes of a file op make no sense."""

    code = "FILE_OP_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An action with the slots that it reads; `owners` are those of passwd and group lookups."""

    index: int
    action: FileActionKind
    input: int
    secondary: int = -1
    owners: tuple[int, ...] = ()

    @property
    def reads(self) -> frozenset[int]:
        """All slots that must be ready first."""
        return frozenset({self.input, self.secondary, *self.owners} - {-1})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The needed steps, each after the ones it reads from.

    `outputs` has the slot of each output. A result in `committed` becomes a snapshot of its own;
    any other one is continued in place by the only step that uses it.
    """

    input_count: int
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    committed: frozenset[int]


def owner_of(action: FileActionKind) -> ChownOpt | None:
    """Give the owner option of an action; rm has none."""
    return None if isinstance(action, Rm) else action.owner


def lookup_slots(owner: ChownOpt | None) -> tuple[int, ...]:
    """Give the slots whose passwd and group files name the owner.

    Raises:
        InvalidFileOpError: a name without a tree.
    """
    slots = []
    for option in (owner.user, owner.group) if owner is not None else ():
        if option is not None and option.by_name is not None:
            if option.by_name.input < 0:
                raise InvalidFileOpError(f"invalid user index {option.by_name.input}")
            slots.append(option.by_name.input)
    return tuple(slots)


def plan(actions: Sequence[FileAction], input_count: int) -> Plan:
    """Order `actions` over `input_count` inputs.

    Raises:
        InvalidFileOpError: outputs with gaps or twice, indexes out of range, a loop.
    """
    outputs = _outputs(actions, input_count)
    total = input_count + len(actions)
    steps = [_step(i, action, total) for i, action in enumerate(actions)]
    order = _order(steps, outputs, input_count)
    return Plan(
        input_count=input_count,
        steps=tuple(steps[slot - input_count] for slot in order),
        outputs=outputs,
        committed=_committed([steps[slot - input_count] for slot in order], outputs, input_count),
    )


def _outputs(actions: Sequence[FileAction], input_count: int) -> tuple[int, ...]:
    found: dict[int, int] = {}
    for i, action in enumerate(actions):
        if action.output == -1:
            continue
        if action.output < -1:
            raise InvalidFileOpError(f"invalid output index {action.output}")
        if action.output in found:
            raise InvalidFileOpError(f"duplicate output {action.output}")
        found[action.output] = input_count + i
    if not found:
        raise InvalidFileOpError("no outputs specified")
    for number in range(len(found)):
        if number not in found:
            raise InvalidFileOpError(f"missing output index {number}")
    return tuple(found[number] for number in range(len(found)))


def _step(index: int, entry: FileAction, total: int) -> Step:
    if entry.action is None:
        raise InvalidFileOpError(f"invalid action {index}: no kind")
    if not -1 <= entry.input < total:
        raise InvalidFileOpError(f"invalid input index {entry.input}, {total} provided")
    if not -1 <= entry.secondary_input < total:
        raise InvalidFileOpError(
            f"invalid secondary input index {entry.secondary_input}, {total} provided"
        )
    owners = lookup_slots(owner_of(entry.action))
    for slot in owners:
        if slot >= total:
            raise InvalidFileOpError(f"invalid user index {slot}, {total} provided")
    secondary = entry.secondary_input if isinstance(entry.action, Copy) else -1
    return Step(
        index=index, action=entry.action, input=entry.input, secondary=secondary, owners=owners
    )


def _order(steps: Sequence[Step], outputs: Sequence[int], input_count: int) -> list[int]:
    """Sort what outputs need depth-first, without recursion: chains may be thousands long."""
    done: dict[int, None] = {}
    open_slots: set[int] = set()
    stack = list(reversed(outputs))
    while stack:
        slot = stack[-1]
        if slot < input_count or slot in done:
            stack.pop()
            continue
        if slot in open_slots:
            open_slots.remove(slot)
            done[slot] = None
            stack.pop()
            continue
        open_slots.add(slot)
        for needed in sorted(steps[slot - input_count].reads, reverse=True):
            if needed in open_slots:
                raise InvalidFileOpError(f"loop from index {needed}")
            stack.append(needed)
    return list(done)


def _committed(steps: Sequence[Step], outputs: Sequence[int], input_count: int) -> frozenset[int]:
    """Only a result with exactly one user, which goes on from it, needs no snapshot of its own."""
    users: dict[int, int] = {}
    read_only: set[int] = set(outputs)
    for step in steps:
        users[step.input] = users.get(step.input, 0) + 1
        read_only.update({step.secondary, *step.owners})
    slots = {step.index + input_count for step in steps}
    return frozenset(s for s in slots if s in read_only or users.get(s, 0) != 1)
