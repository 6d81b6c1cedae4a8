from __future__ import annotations

import pytest

from torana.core.llb.ops import ChownOpt, Copy, FileAction, MkDir, MkFile, NamedUser, UserOpt
from torana.core.ops.file.plan import InvalidFileOpError, Plan, plan


def act(input: int, output: int = -1, secondary: int = -1) -> FileAction:
    kind = MkDir(path="/d") if secondary == -1 else Copy(src="/s", dest="/d")
    return FileAction(input=input, secondary_input=secondary, output=output, action=kind)


def order(planned: Plan) -> list[int]:
    return [step.index for step in planned.steps]


@pytest.mark.parametrize(
    ("actions", "count", "message"),
    [
        ([act(0)], 1, "no outputs specified"),
        ([], 1, "no outputs specified"),
        ([act(0, 1)], 1, "missing output index 0"),
        ([act(0, 0), act(1, 2)], 1, "missing output index 1"),
        ([act(0, 0), act(1, 0)], 1, "duplicate output 0"),
        ([act(0, -2)], 1, "invalid output index -2"),
        ([act(2, 0)], 1, "invalid input index 2, 2 provided"),
        ([act(-2, 0)], 1, "invalid input index -2, 2 provided"),
        ([act(0, 0, 7)], 1, "invalid secondary input index 7, 2 provided"),
        ([act(0, 0, -3)], 1, "invalid secondary input index -3, 2 provided"),
        ([act(1, 0)], 1, "loop from index 1"),
        ([act(2, 0), act(1)], 1, "loop from index 1"),
        ([act(0, 0, 1)], 1, "loop from index 1"),
        ([FileAction(output=0)], 1, "invalid action 0: no kind"),
    ],
)
def test_wrong_indexes_are_named(actions: list[FileAction], count: int, message: str) -> None:
    with pytest.raises(InvalidFileOpError) as caught:
        plan(actions, count)
    assert caught.value.message == message


def test_a_chain_is_continued_in_place() -> None:
    planned = plan([act(0), act(1), act(2, 0)], 1)
    assert order(planned) == [0, 1, 2]
    assert planned.committed == {3}
    assert planned.outputs == (3,)


def test_only_what_outputs_need_runs() -> None:
    assert order(plan([act(0), act(0), act(2, 0)], 1)) == [1, 2]


def test_a_result_with_two_users_is_committed() -> None:
    planned = plan([act(0), act(1, 0), act(1, 1)], 1)
    assert order(planned) == [0, 1, 2]
    assert planned.committed == {1, 2, 3}


def test_a_result_that_is_copied_from_is_committed() -> None:
    planned = plan([act(-1), act(0, 0, 1)], 1)
    assert planned.committed == {1, 2}


def test_an_output_that_is_continued_is_committed_first() -> None:
    assert plan([act(0, 0), act(1, 1)], 1).committed == {1, 2}


def test_later_actions_may_come_first_in_the_list() -> None:
    assert order(plan([act(2, 0), act(0)], 1)) == [1, 0]


def named(slot: int) -> FileAction:
    owner = ChownOpt(user=UserOpt(by_name=NamedUser("u", slot)))
    kind = MkFile(path="/f", owner=owner)
    return FileAction(input=0, secondary_input=-1, output=0, action=kind)


def test_owners_are_read_from_trees() -> None:
    planned = plan([named(2), act(-1)], 1)
    assert order(planned) == [1, 0]
    assert planned.steps[1].owners == (2,)
    assert planned.committed == {1, 2}
    with pytest.raises(InvalidFileOpError, match="loop from index 1"):
        plan([named(1)], 1)
    with pytest.raises(InvalidFileOpError, match="invalid user index -1"):
        plan([named(-1)], 1)
    with pytest.raises(InvalidFileOpError, match="invalid user index 5, 2 provided"):
        plan([named(5)], 1)


def test_a_chain_of_thousands() -> None:
    actions = [act(i, 0 if i == 4999 else -1) for i in range(5000)]
    assert len(plan(actions, 1).steps) == 5000
