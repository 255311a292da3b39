"""What records have in common: they read strictly from JSON, and checkpointers give them back as what they were."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NoReturn, TypeVar

from pydantic import ConfigDict
from pydantic_core import SchemaSerializer, core_schema, to_jsonable_python

__all__ = ("FrozenDict", "Record", "content_id", "keeps_its_type")

_RecordT = TypeVar("_RecordT", bound=type)


class Record:
    """A record read from JSON must have no key that it does not know."""

    __slots__ = ()
    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        # A checkpointer gives back lists.
        for name in self.__dataclass_fields__:  # type: ignore[attr-defined]
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, _as_tuple(value))


class FrozenDict(dict[str, Any]):
    """A dictionary of plain data that does not change, so that it has a hash and a record may hold it.

    What is no JSON value becomes one: a date its ISO form, numpy's numbers and arrays numbers and lists, what has no
    form of its own its string; a number that is none becomes None, and one of more than 64 bits, which no checkpointer
    stores, its digits.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        plain = to_jsonable_python(dict(values), fallback=_plain, bytes_mode="base64") if values else {}
        super().__init__((key, _frozen(value)) for key, value in plain.items())

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a record's mapping can't be changed; make a new one with `dict(...)`")

    __setitem__ = __delitem__ = __ior__ = update = clear = pop = popitem = setdefault = _refuse


def keeps_its_type(record: _RecordT) -> _RecordT:
    """Keep instances of a record as they are where pydantic dumps something that holds one, other than as JSON.

    A checkpointer dumps a tool message before it writes it, and a record that is its artifact would be a dictionary
    from then on.
    """
    as_itself = core_schema.plain_serializer_function_ser_schema(
        lambda value, info: value if info.mode == "python" else asdict(value),
        info_arg=True,
        return_schema=core_schema.is_instance_schema(object),
    )
    record.__pydantic_serializer__ = SchemaSerializer(core_schema.any_schema(serialization=as_itself))  # type: ignore[attr-defined]
    return record


def content_id(*parts: object) -> str:
    """Return a 16-digit hexadecimal id that depends on the parts' values only."""
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()[:16]


def _as_tuple(values: list[Any]) -> tuple[Any, ...]:
    return tuple(_as_tuple(value) if isinstance(value, list) else value for value in values)


def _plain(value: Any) -> Any:
    return value.tolist() if type(value).__module__.partition(".")[0] == "numpy" else str(value)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return FrozenDict(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, str) and not value.isascii():
        return value.encode(errors="replace").decode()  # No JSON can be written of half a surrogate pair.
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
