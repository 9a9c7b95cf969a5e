"""One check for each kind of lexicon schema: it returns if a JSON value keeps the rules, else it raises Broken.

Source: the atproto lexicon specification; where it leaves room, the strict checks of the AppView's own indexer.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import regex  # type: ignore[import-untyped]  # the package has no types

from indexer.lexicon_formats import FORMATS, is_cid, is_raw_cid

Check = Callable[[Any], None]
Schema = Mapping[str, Any]

# the integers that a JavaScript reader gets as they were written
_SAFE_INTEGER = 2**53 - 1
_UNBOUNDED = 2**63
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3})?={0,2}")
_GRAPHEME = regex.compile(r"\X")
# where \X joins an Indic letter to the one before although that is no consonant (Unicode annex 29, rule GB9c)
_JOINED_WRONGLY = regex.compile(
    r"(?<![\p{InCB=Consonant}\p{InCB=Extend}\p{InCB=Linker}])"
    r"\p{InCB=Extend}*+\p{InCB=Linker}[\p{InCB=Extend}\p{InCB=Linker}]*+(?=\p{InCB=Consonant})"
)


class Broken(Exception):
    """A rule does not hold. `path` is filled from the inside out while this rises through objects and arrays."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.path: list[str] = []


def object_(checks: Mapping[str, Check], required: frozenset[str]) -> Check:
    """Properties without a check of their own may be anything that can be carried."""
    check_of = {**checks, "__proto__": _refused}.get

    def check(value: Any) -> None:
        if type(value) is not dict or (len(value) == 1 and (_is_link(value) or _is_bytes(value))):
            raise Broken("is no object")
        if not value.keys() >= required:
            raise Broken(f"lacks {', '.join(sorted(required - value.keys()))}")
        name = ""
        try:
            for name, item in value.items():
                check_of(name, carried)(item)
        except Broken as broken:
            broken.path.append(name)
            raise

    return check


def _refused(_value: Any) -> None:
    raise Broken("is a name that makes the AppView's reader throw")


def carried(value: Any) -> None:
    """What no lexicon describes is stored as it came, so it need only be readable by JavaScript."""
    if type(value) is str:
        return
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if type(item) is dict:
            if "__proto__" in item:
                _refused(item)
            waiting.extend(item.values())
        elif type(item) is list:
            waiting.extend(item)
        elif type(item) is int and not -_SAFE_INTEGER <= item <= _SAFE_INTEGER:
            raise Broken("holds an integer beyond 2^53")


def union(members: Mapping[str, Check], *, closed: bool) -> Check:
    """Open unions take any object with a $type; a type they know must keep its rules."""

    def check(value: Any) -> None:
        type_name = value.get("$type") if type(value) is dict else None
        if type(type_name) is not str:
            raise Broken("is no object with a $type")
        member = members.get(type_name)
        if member is not None:
            member(value)
        elif closed:
            raise Broken("is of a type outside the closed union")
        else:
            carried(value)

    return check


def array(check_item: Check, schema: Schema) -> Check:
    lowest, highest = schema.get("minLength", 0), schema.get("maxLength", _UNBOUNDED)

    def check(value: Any) -> None:
        if type(value) is not list:
            raise Broken("is no array")
        if not lowest <= len(value) <= highest:
            raise Broken(f"has {len(value)} items")
        position = 0
        try:
            for position in range(len(value)):
                check_item(value[position])
        except Broken as broken:
            broken.path.append(str(position))
            raise

    return check


def nullable(check_inner: Check) -> Check:
    def check(value: Any) -> None:
        if value is not None:
            check_inner(value)

    return check


def one_of(values: Sequence[Any], kind: type) -> Check:
    def check(value: Any) -> None:
        if type(value) is not kind or value not in values:
            raise Broken(f"is not {' or '.join(map(str, values))}")

    return check


def string(schema: Schema) -> Check:
    is_format = FORMATS[schema["format"]] if "format" in schema else None
    check_length = _string_length(schema)

    def check(value: Any) -> None:
        if type(value) is not str:
            raise Broken("is no string")
        if check_length is not None:
            check_length(value)
        if is_format is not None and not is_format(value):
            raise Broken(f"is no {schema['format']}")

    return check


def _string_length(schema: Schema) -> Check | None:
    """Lengths are in UTF-8 bytes and in grapheme clusters; most texts are too short for either to matter."""
    if not {"minLength", "maxLength", "minGraphemes", "maxGraphemes"} & schema.keys():
        return None
    low_bytes, high_bytes = schema.get("minLength", 0), schema.get("maxLength", _UNBOUNDED)
    low_graphemes, high_graphemes = schema.get("minGraphemes", 0), schema.get("maxGraphemes", _UNBOUNDED)
    # a code point is one to four bytes, and a grapheme is at least one code point
    harmless = range(low_bytes, min(high_bytes // 4, high_graphemes) + 1) if not low_graphemes else range(0)

    def check(value: str) -> None:
        if len(value) in harmless:
            return
        size = len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        if not low_bytes <= size <= high_bytes:
            raise Broken(f"has {size} bytes")
        if len(value) > high_graphemes or low_graphemes:
            count = graphemes(value)
            if not low_graphemes <= count <= high_graphemes:
                raise Broken(f"has {count} graphemes")

    return check


def graphemes(text: str) -> int:
    """How many extended grapheme clusters (Unicode annex 29) the text has."""
    if text.isascii():
        return len(text) - text.count("\r\n")
    return len(_GRAPHEME.findall(text)) + len(_JOINED_WRONGLY.findall(text))


def integer(schema: Schema) -> Check:
    """Booleans and floats are no integers, not even 1.0."""
    lowest = max(schema.get("minimum", -_SAFE_INTEGER), -_SAFE_INTEGER)
    highest = min(schema.get("maximum", _SAFE_INTEGER), _SAFE_INTEGER)

    def check(value: Any) -> None:
        if type(value) is not int:
            raise Broken("is no integer")
        if not lowest <= value <= highest:
            raise Broken(f"is outside {lowest}..{highest}")

    return check


def boolean(_schema: Schema) -> Check:
    return one_of((True, False), bool)


def bytes_(schema: Schema) -> Check:
    lowest, highest = schema.get("minLength", 0), schema.get("maxLength", _UNBOUNDED)

    def check(value: Any) -> None:
        if type(value) is not dict or not _is_bytes(value):
            raise Broken("is no bytes")
        size = len(value["$bytes"].rstrip("=")) * 3 // 4
        if not lowest <= size <= highest:
            raise Broken(f"has {size} bytes")

    return check


def link(_schema: Schema) -> Check:
    def check(value: Any) -> None:
        if type(value) is not dict or not _is_link(value):
            raise Broken("is no CID link")

    return check


def unknown(_schema: Schema) -> Check:
    """Any object of the data model that is not a link, bytes or a blob."""

    def check(value: Any) -> None:
        if type(value) is not dict or value.get("$type") == "blob" or _is_link(value) or _is_bytes(value):
            raise Broken("is no object")
        carried(value)

    return check


def blob(schema: Schema) -> Check:
    """Only the typed form, with nothing added; `image/*` accepts whatever begins with `image/`."""
    accepted = schema.get("accept", ("*/*",))
    prefixes = tuple(mime[:-1] for mime in accepted if mime.endswith("/*")) + (("",) if "*/*" in accepted else ())
    highest = schema.get("maxSize", _SAFE_INTEGER)

    def check(value: Any) -> None:
        if type(value) is not dict or value.keys() != _BLOB_KEYS or value["$type"] != "blob":
            raise Broken("is no blob")
        ref, mime, size = value["ref"], value["mimeType"], value["size"]
        if type(ref) is not dict or not _is_link(ref) or not is_raw_cid(ref["$link"]):
            raise Broken("is a blob without a link to raw bytes")
        if type(mime) is not str or "/" not in mime or not (mime in accepted or mime.startswith(prefixes)):
            raise Broken("is a blob of a MIME type that is not accepted")
        if type(size) is not int or not 0 <= size <= highest:
            raise Broken("is a blob of a size that is not accepted")

    return check


_BLOB_KEYS = frozenset({"$type", "ref", "mimeType", "size"})


def _is_link(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and type(cid := value.get("$link")) is str and is_cid(cid)


def _is_bytes(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and type(text := value.get("$bytes")) is str and _BASE64.fullmatch(text) is not None


_LEAVES: dict[str, Callable[[Schema], Check]] = {
    "blob": blob,
    "boolean": boolean,
    "bytes": bytes_,
    "cid-link": link,
    "integer": integer,
    "string": string,
    "unknown": unknown,
}


def leaf(schema: Schema) -> Check:
    """The check of a schema that holds no other. `knownValues` and `default` ask nothing of a record."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return one_of(values, type(values[0])) if values else _LEAVES[schema["type"]](schema)
