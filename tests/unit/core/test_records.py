"""`core.records.dataclass` beside the standard library's."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from torana.core import records

Maker = Callable[..., Any]
BOTH = pytest.mark.parametrize("dataclass", [dataclasses.dataclass, records.dataclass])


def _classes(dataclass: Maker) -> tuple[Any, Any]:
    @dataclass(frozen=True, slots=True)
    class Base:
        kind: ClassVar[str] = "base"
        name: str
        size: int = 3
        items: list[int] = field(default_factory=list)
        note: str = field(default="", repr=False, compare=False)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Derived(Base):
        extra: bool
        total: int = field(default=7, init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.size * 2)

    return Base, Derived


@BOTH
def test_arguments_defaults_and_factories(dataclass: Maker) -> None:
    base, derived = _classes(dataclass)
    one, other = base("a"), base("a", 3, items=[])
    assert (one.name, one.size, one.items, one.note) == ("a", 3, [], "")
    assert one.items is not other.items
    made = derived("b", 4, extra=True)
    assert (made.total, made.extra, made.kind) == (8, True, "base")


@BOTH
@pytest.mark.parametrize(
    "arguments, named",
    [
        ((), {}),
        (("a", 1, [], "n", True), {}),
        (("a",), {"unknown": 1}),
        (("a",), {"extra": 1, "total": 2}),
    ],
)
def test_wrong_arguments(dataclass: Maker, arguments: Any, named: Any) -> None:
    _, derived = _classes(dataclass)
    for _ in range(2):  # the first call is another than the second
        with pytest.raises(TypeError, match="__init__"):
            derived(*arguments, **named)


@BOTH
def test_comparing_hashing_and_showing(dataclass: Maker) -> None:
    base, derived = _classes(dataclass)
    assert base("a", 1, (), "x") == base("a", 1, (), "y")
    assert hash(base("a", 1, (), "x")) == hash(base("a", 1, (), "y"))
    assert base("a") != base("b")
    assert derived("a", extra=True) != base("a")
    assert repr(base("a", note="hidden")).endswith("Base(name='a', size=3, items=[])")

    @dataclass(slots=True)
    class Changing:
        value: int = 1

    thing = Changing()
    thing.value = 2
    assert thing == Changing(2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(thing)

    @dataclass(slots=True, eq=False)
    class Single:
        value: int = 1

    assert Single() != Single()
    assert hash(Single())


@BOTH
def test_a_field_can_be_compared_and_not_hashed(dataclass: Maker) -> None:
    @dataclass(frozen=True)
    class Named:
        name: str
        data: dict[str, int] = field(hash=False)

    assert hash(Named("a", {"x": 1})) == hash(Named("a", {"x": 2}))
    assert Named("a", {"x": 1}) != Named("a", {"x": 2})


@BOTH
def test_frozen_stays_frozen(dataclass: Maker) -> None:
    base, _ = _classes(dataclass)
    thing = base("a")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        thing.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
        del thing.name
    # With slots, CPython 3.11's raises TypeError by mistake.
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        thing.unknown = 1


def test_a_subclass_may_have_further_attributes() -> None:
    class Loose(Ours):
        unknown: int

    loose = Loose("a")
    loose.unknown = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        loose.name = "b"  # type: ignore[misc]


@BOTH
def test_what_the_standard_library_gives(dataclass: Maker) -> None:
    base, derived = _classes(dataclass)
    thing = derived("a", extra=False)
    assert [f.name for f in dataclasses.fields(thing)] == [
        "name", "size", "items", "note", "extra", "total",
    ]  # fmt: skip
    assert dataclasses.replace(thing, size=5).total == 10
    assert dataclasses.asdict(base("a")) == {"name": "a", "size": 3, "items": [], "note": ""}
    assert copy.deepcopy(thing) == thing
    match base("a", 9):
        case base(name, size):
            assert (name, size) == ("a", 9)


@BOTH
def test_methods_that_were_written_stay(dataclass: Maker) -> None:
    @dataclass(frozen=True, slots=True)
    class Own:
        value: int

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

    assert (repr(Own(2)), Own(1) == Own(2), hash(Own(5))) == ("own", True, 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Standard:
    name: str
    size: int = 1


@records.dataclass(frozen=True, slots=True)
class Ours:
    name: str
    size: int = 1


@pytest.mark.parametrize("cls", [Standard, Ours])
def test_pickle(cls: Any) -> None:
    assert pickle.loads(pickle.dumps(cls("a", 2))) == cls("a", 2)


def test_the_signature_is_there_after_the_first_call() -> None:
    Ours("a")
    assert str(inspect.signature(Ours)) == "(name, size=1)"


def test_a_subclass_may_call_the_first_init() -> None:
    class Child(Ours):
        def __init__(self, name: str) -> None:
            super().__init__(name, 5)

    assert (Child("a").size, Child("b").name) == (5, "b")


def test_our_modules_use_it() -> None:
    package = Path(records.__file__).parents[1]
    standard = [
        str(path.relative_to(package))
        for folder in ("core", "gateway", "frontends", "plugins", "cli")
        for path in (package / folder).rglob("*.py")
        if _imports_the_other(path.read_text()) and "order=True" not in path.read_text()
    ]
    assert standard == [], "import torana.core.records.dataclass"


def _imports_the_other(text: str) -> bool:
    """Say whether a module does, and not only a text in it that is for others to have."""
    return "dataclass" in text and any(
        isinstance(node, ast.ImportFrom)
        and node.module == "dataclasses"
        and any(alias.name == "dataclass" for alias in node.names)
        for node in ast.parse(text).body
    )
