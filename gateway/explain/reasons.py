"""Why a step ran or was cached, from the records of two builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from torana.core.llb import ops as o
from torana.core.llb.comparison import partners
from torana.core.oci.digest import Digest
from torana.core.records import dataclass
from torana.gateway.explain.differences import differences
from torana.gateway.explain.listing import Listing, compare_listings
from torana.gateway.explain.record import BuildRecord, Outcome, StepRecord

_NAMED: Final = 10  # files


@dataclass(frozen=True, slots=True)
class Explanation:
    """A step, how it ended, and why: one line of words per reason."""

    step: StepRecord
    reasons: tuple[str, ...]


def explain(
    new: BuildRecord, old: BuildRecord | None, listing: Callable[[str], Listing | None]
) -> list[Explanation]:
    """Explain each step of `new`, in order. `listing` finds the files behind a content digest."""
    compared = _Comparison(new, old, listing)
    return [Explanation(step, tuple(compared.why(step))) for step in new.steps.values()]


class _Comparison:
    def __init__(
        self, new: BuildRecord, old: BuildRecord | None, listing: Callable[[str], Listing | None]
    ) -> None:
        self._new = new
        self._old = old
        self._listing = listing
        self._known: dict[tuple[Digest, Digest], bool] = {}
        self._partners: Mapping[Digest, Digest] = (
            {} if old is None else partners(old.definition(), new.definition())
        )

    def why(self, step: StepRecord) -> list[str]:
        """Give the reasons for a step's outcome."""
        before = self._before(step)
        if step.outcome is Outcome.SKIPPED:
            return ["what uses it was cached, so nobody had to look at it"]
        if step.outcome is Outcome.CANCELLED:
            return ["the build ended before it did"]
        if step.outcome is Outcome.FAILED:
            return [step.error or "it failed"]
        if step.outcome is Outcome.CACHED:
            return self._why_cached(step)
        return self._why_ran(step, before)

    def _before(self, step: StepRecord) -> StepRecord | None:
        digest = self._partners.get(step.digest)
        return None if digest is None or self._old is None else self._old.steps.get(digest)

    def _why_cached(self, step: StepRecord) -> list[str]:
        remade = [
            self._new.steps[each.step].name
            for each in step.inputs
            if each.step in self._new.steps
            and self._new.steps[each.step].outcome is Outcome.RAN
            and not self._new.steps[each.step].is_local
        ]
        if remade:
            return [f"the files it uses of `{name}` are the same as before" for name in remade]
        if any(each.content for each in step.inputs):
            return ["the step and the files it looks at are the same as before"]
        return ["nothing that it is made from has changed"]

    def _why_ran(self, step: StepRecord, before: StepRecord | None) -> list[str]:
        if step.is_local:
            return ["folders of the client are looked at in each build"]
        if self._new.ignores_cache:
            return ["the cache was not to be used"]
        if self._old is None:
            return ["no earlier build of this folder is remembered"]
        if before is None:
            return ["there was no such step in the build before"]
        reasons = differences(before.decoded(), step.decoded()) if before.op != step.op else []
        if _same_apart_from_inputs(before, step):
            reasons = []
        for number, each in enumerate(step.inputs):
            reasons += self._input_reasons(step, before, number, each.content)
        if reasons:
            return reasons
        if before.outcome in (Outcome.FAILED, Outcome.CANCELLED):
            return ["the build before did not get it done"]
        if before.key and before.key != step.key:
            return ["what it was resolved to has changed (a tag, a branch or a file on the web)"]
        return ["its result is not in the cache any more, or was made elsewhere"]

    def _input_reasons(
        self, step: StepRecord, before: StepRecord, number: int, content: str
    ) -> list[str]:
        if number >= len(before.inputs):
            return []
        source = self._new.steps.get(step.inputs[number].step)
        was = before.inputs[number].content
        name = "an input" if source is None else f"`{source.name}`"
        if content and was:
            if content == was:
                return []
            return self._file_reasons(step, name, was, content)
        if source is None or source.is_local:
            return []
        if source.outcome is Outcome.RAN:
            return [f"it builds on {name}, which ran"]
        assert self._old is not None, "without a build before there is no step before"
        earlier = self._old.steps.get(before.inputs[number].step)
        if earlier is None or self._partners.get(source.digest) != earlier.digest:
            return [f"it builds on {name} now"]
        if not self._is_same(earlier, source):
            return [f"it builds on {name}, which is another one than before"]
        return []

    def _is_same(self, before: StepRecord, step: StepRecord) -> bool:
        """Say whether two steps do the same with the same files, as far as it is known."""
        assert self._old is not None
        if before.digest == step.digest:
            return True
        pair = (before.digest, step.digest)
        if pair in self._known:
            return self._known[pair]
        same = _same_apart_from_inputs(before, step) and len(before.inputs) == len(step.inputs)
        for was, now in zip(before.inputs, step.inputs, strict=False):
            if was.content and now.content:
                same = same and was.content == now.content
                continue
            below, source = self._old.steps.get(was.step), self._new.steps.get(now.step)
            if below is not None and source is not None:
                same = same and self._is_same(below, source)
        self._known[pair] = same
        return same

    def _file_reasons(self, step: StepRecord, name: str, was: str, now: str) -> list[str]:
        old, new = self._listing(was), self._listing(now)
        if old is None or new is None:
            return [f"the files it uses of {name} changed"]
        changes = compare_listings(old, new, _copied(step.decoded()))
        lines = [f"`{change.path}` {_said(change.what)}" for change in changes[:_NAMED]]
        if len(changes) > _NAMED:
            lines.append(f"and {len(changes) - _NAMED} more files of {name}")
        return lines or [f"the files it uses of {name} changed"]


def _said(what: str) -> str:
    return {"added": "is new", "removed": "is gone", "changed": "changed"}[what]


def _same_apart_from_inputs(old: StepRecord, new: StepRecord) -> bool:
    if old.is_local and new.is_local:
        return True  # what differs names the session; the files are compared where they are used
    was, now = old.decoded(), new.decoded()
    return was.kind == now.kind and was.platform == now.platform


def _copied(op: o.Op) -> Sequence[str]:
    """Give the paths that a file op copies from elsewhere; none for other ops, which see all."""
    if not isinstance(op.kind, o.FileOp):
        return ()
    return [each.action.src for each in op.kind.actions if isinstance(each.action, o.Copy)]
