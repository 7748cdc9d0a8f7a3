"""How values stand in JSON. The generated types are made of these; reading is checking."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from typing import Any, Callable, Dict, List, Mapping, Type, TypeVar

R = TypeVar("R", bound="Record")
V = TypeVar("V", int, str)

_U32_MAX = (1 << 32) - 1
_U64_MAX = (1 << 64) - 1


class Misshapen(ValueError):
    """JSON that is not what it should be, and where."""


class Shape:
    """Reads a value from JSON and writes it there."""

    def __init__(
        self,
        read: Callable[[Any, str], Any],
        write: Callable[[Any], Any],
        default: Callable[[], Any],
    ) -> None:
        self.read = read
        self.write = write
        self.default = default


def texts(name: str, value: Any) -> List[str]:
    """What a caller has given as a list of texts. A text alone would be taken for its letters."""
    if isinstance(value, (str, bytes, Mapping)):
        raise TypeError(f"{name} is a list of texts, and not {value!r}")
    found = list(value)
    for item in found:
        if not isinstance(item, str):
            raise TypeError(f"{name} is a list of texts, and {item!r} in it is none")
    return found


def mapping(name: str, value: Any, of: Type[V]) -> Dict[V, V]:
    """What a caller has given as texts by texts, or as whole numbers by whole numbers."""
    what = "texts by texts" if of is str else "whole numbers by whole numbers"
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is {what}, and not {value!r}")
    for pair in value.items():
        if not all(isinstance(one, of) and not isinstance(one, bool) for one in pair):
            raise TypeError(f"{name} is {what}, and {pair!r} in it is something else")
    return dict(value)


def _same(value: Any) -> Any:
    return value


def _expected(what: str, value: Any, at: str) -> Misshapen:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:60] + "…"
    return Misshapen(f"{at}: {what} was expected, and not {shown}")


def text() -> Shape:
    """A text."""

    def read(value: Any, at: str) -> str:
        if not isinstance(value, str):
            raise _expected("a text", value, at)
        return value

    return Shape(read, _same, str)


def boolean() -> Shape:
    """True or false."""

    def read(value: Any, at: str) -> bool:
        if not isinstance(value, bool):
            raise _expected("true or false", value, at)
        return value

    return Shape(read, _same, bool)


def _whole(most: int, quoted: bool) -> Shape:
    def read(value: Any, at: str) -> int:
        # JSON of protobuf may write a number either way.
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise _expected(f"a whole number from 0 to {most}", value, at)
        return value

    return Shape(read, str if quoted else _same, int)


def uint32() -> Shape:
    """A whole number of 32 bits."""
    return _whole(_U32_MAX, quoted=False)


def uint64() -> Shape:
    """A whole number of 64 bits."""
    return _whole(_U64_MAX, quoted=False)


def quoted64() -> Shape:
    """The same in quotes, as JSON of protobuf has it: no reader rounds it."""
    return _whole(_U64_MAX, quoted=True)


def octets() -> Shape:
    """Bytes, in Base64."""

    def read(value: Any, at: str) -> bytes:
        if not isinstance(value, str):
            raise _expected("Base64", value, at)
        try:
            plain = value.replace("-", "+").replace("_", "/")
            return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise _expected("Base64", value, at) from None

    return Shape(read, lambda value: base64.b64encode(value).decode("ascii"), bytes)


def raw() -> Shape:
    """Any JSON value: it belongs to a service."""
    return Shape(lambda value, _: value, _same, lambda: None)


def choice(*words: str) -> Shape:
    """One of these words."""

    def read(value: Any, at: str) -> str:
        if value not in words:
            raise _expected(f"one of {', '.join(words)}", value, at)
        return str(value)

    return Shape(read, _same, lambda: words[0])


def ref(record: Callable[[], Type[Record]]) -> Shape:
    """A record, named lazily."""
    return Shape(
        lambda value, at: record().read(value, at),
        lambda value: value.write(),
        lambda: None,
    )


def optional(inner: Shape) -> Shape:
    """What may not be there."""
    return Shape(
        lambda value, at: None if value is None else inner.read(value, at),
        lambda value: None if value is None else inner.write(value),
        lambda: None,
    )


def many(inner: Shape) -> Shape:
    """A list."""

    def read(value: Any, at: str) -> Any:
        if not isinstance(value, list):
            raise _expected("a list", value, at)
        return [inner.read(item, f"{at}[{index}]") for index, item in enumerate(value)]

    return Shape(read, lambda value: [inner.write(item) for item in value], list)


def table(key: Shape, inner: Shape) -> Shape:
    """Values by their keys."""

    def read(value: Any, at: str) -> Any:
        if not isinstance(value, dict):
            raise _expected("an object", value, at)
        return {
            key.read(name, f"a key of {at}"): inner.read(item, f"{at}[{name!r}]")
            for name, item in value.items()
        }

    def write(value: Mapping[Any, Any]) -> Dict[str, Any]:
        return {str(name): inner.write(item) for name, item in value.items()}

    return Shape(read, write, dict)


def part(json: str, shape: Shape, required: bool = False) -> Any:
    """A part of a record: its name in JSON, and how it stands there."""
    metadata = {"json": json, "shape": shape}
    if required:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default_factory=shape.default, metadata=metadata)


class Record:
    """What has parts. A reader passes over parts that it does not know."""

    @classmethod
    def read(cls: Type[R], value: Any, at: str = "the answer") -> R:
        """The record that a JSON object is; raises `Misshapen` where it is none."""
        if not isinstance(value, dict):
            raise _expected("an object", value, at)
        parts: Dict[str, Any] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            name, shape = field.metadata["json"], field.metadata["shape"]
            if value.get(name) is not None:
                parts[field.name] = shape.read(value[name], f"{at}.{name}")
            elif field.default_factory is dataclasses.MISSING:
                if name not in value:
                    raise Misshapen(f"{at}: {name} is missing")
                parts[field.name] = shape.read(value[name], f"{at}.{name}")
        return cls(**parts)

    def write(self) -> Dict[str, Any]:
        """The JSON object of this record, without what says nothing."""
        written: Dict[str, Any] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, shape = getattr(self, field.name), field.metadata["shape"]
            is_said = value is not None and value != shape.default()
            if is_said or field.default_factory is dataclasses.MISSING:
                written[field.metadata["json"]] = shape.write(value)
        return written
