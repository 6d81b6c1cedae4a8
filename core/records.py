"""`dataclass`: the standard library's, with methods that are made when they are first called.

The standard one compiles six functions for each class, most of a millisecond. A command imports
some three hundred such classes and makes instances of fewer than a hundred, so that was more than
half of the time of its imports. Here fields, slots and inheritance are still the standard
library's, so `fields`, `replace`, `asdict` and `match` work; `__init__` is compiled by its first
call, and the other methods are functions that all classes share. To type checkers it is
`dataclasses.dataclass` itself. `order`, `unsafe_hash` and `InitVar` are not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

_HAS_FACTORY: Final = object()  # stands for an argument that was not given

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, eq=True, frozen=False, slots=False, kw_only=False):
        """Make a data class of `cls`, as `dataclasses.dataclass` does with the same options."""

        def decorate(cls):
            return _decorated(cls, eq=eq, frozen=frozen, slots=slots, kw_only=kw_only)

        return decorate if cls is None else decorate(cls)


def _decorated(cls: Any, *, eq: bool, frozen: bool, slots: bool, kw_only: bool) -> Any:
    written = {name for name in ("__init__", "__repr__", "__eq__", "__hash__") if name in vars(cls)}
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else the standard library writes one out of the signature
    cls = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
    methods: dict[str, Any] = {"__init__": _late_init(cls, frozen=frozen), "__repr__": _repr}
    if eq:
        methods["__eq__"] = _equality(_values(cls, lambda field: field.compare))
        hashed = _values(cls, lambda field: field.compare if field.hash is None else field.hash)
        methods["__hash__"] = _hash(hashed) if frozen else None
    if frozen:
        methods["__setattr__"], methods["__delattr__"] = _refusals(cls)
        if slots:
            methods["__getstate__"], methods["__setstate__"] = _get_state, _set_state
    for name, method in methods.items():
        if name not in written:
            setattr(cls, name, method)
    return cls


def _late_init(cls: Any, *, frozen: bool) -> Callable[..., None]:
    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
        made = _compiled_init(cls, frozen=frozen)
        if vars(cls).get("__init__") is __init__:
            cls.__init__ = made
        made(self, *args, **kwargs)

    return __init__


def _compiled_init(cls: Any, *, frozen: bool) -> Callable[..., None]:
    names: dict[str, Any] = {"_set": object.__setattr__, "_absent": _HAS_FACTORY}
    positional, keywords, body = ["self"], list[str](), list[str]()
    for field in fields(cls):
        value = field.name
        if field.default_factory is not MISSING:
            names[f"_make_{field.name}"] = field.default_factory
            value = f"_make_{field.name}()"
            if field.init:
                value += f" if {field.name} is _absent else {field.name}"
        elif not field.init:
            if field.default is MISSING:
                continue
            names[f"_default_{field.name}"] = field.default
            value = f"_default_{field.name}"
        if field.init:
            (keywords if field.kw_only else positional).append(_parameter(field, names))
        body.append(
            f"_set(self, {field.name!r}, {value})" if frozen else f"self.{field.name} = {value}"
        )
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *keywords] if keywords else [])])
    source = f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"])
    exec(source, names)
    made: Callable[..., None] = names["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _parameter(field: Field[Any], names: dict[str, Any]) -> str:
    if field.default is not MISSING:
        names[f"_default_{field.name}"] = field.default
        return f"{field.name}=_default_{field.name}"
    return field.name if field.default_factory is MISSING else f"{field.name}=_absent"


def _values(cls: Any, is_wanted: Callable[[Field[Any]], bool]) -> Callable[[Any], object]:
    names = [field.name for field in fields(cls) if is_wanted(field)]
    return attrgetter(*names) if names else _nothing


def _nothing(_: object) -> tuple[()]:
    return ()


def _equality(values: Callable[[Any], object]) -> Callable[[Any, object], Any]:
    def __eq__(self: Any, other: object) -> Any:
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    return __eq__


def _hash(values: Callable[[Any], object]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:
        return hash(values(self))

    return __hash__


def _refusals(cls: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """Give `__setattr__` and `__delattr__`; subclasses may have further attributes."""

    def refuse(self: Any, name: str, verb: str) -> None:
        if type(self) is cls or name in cls.__dataclass_fields__:
            raise FrozenInstanceError(f"cannot {verb} field {name!r}")

    def __setattr__(self: Any, name: str, value: object) -> None:
        refuse(self, name, "assign to")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:
        refuse(self, name, "delete")
        super(cls, self).__delattr__(name)

    return __setattr__, __delattr__


def _repr(self: Any) -> str:
    shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
    return f"{type(self).__qualname__}({shown})"


def _get_state(self: Any) -> list[object]:
    return [getattr(self, field.name) for field in fields(self)]


def _set_state(self: Any, state: list[object]) -> None:
    for field, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
