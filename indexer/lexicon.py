"""Records against their lexicons: the JSON documents are compiled, once, into one function for each record type.

The functions are as strict as the AppView is when it indexes, so that both keep the same records.
"""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from common.errors import BadInput
from indexer import lexicon_checks as checks
from indexer.lexicon_checks import Broken, Check, Schema

# the AppView keeps these without looking at them
_UNCHECKED = frozenset({"chat.bsky.actor.declaration"})


@cache
def validator(nsid: str) -> Callable[[dict[str, Any]], None]:
    """The check of one record type: takes a record as JSON (CIDs as $link, bytes as $bytes) and returns if it is valid.

    The check raises BadInput("invalid_record") with the path and the broken rule. The record's key is not its
    business. Raises KeyError if there is no lexicon for the collection.
    """
    check = checks.carried if nsid in _UNCHECKED else _our_lexicons().check(nsid)

    def validate(record: dict[str, Any]) -> None:
        try:
            check(record)
        except Broken as broken:
            path = ".".join(reversed(broken.path)) or "record"
            raise BadInput("invalid_record", f"{path[:200]} {broken.rule}") from None

    return validate


@cache
def _our_lexicons() -> "Lexicons":
    files = (Path(__file__).parent / "lexicons").glob("*.json")
    return Lexicons(orjson.loads(file.read_bytes()) for file in files)


class Lexicons:
    """Lexicon documents that refer to one another, and the checks compiled from them so far."""

    def __init__(self, documents: Iterable[Schema]) -> None:
        self._definitions = {
            f"{document['id']}#{name}": definition
            for document in documents
            for name, definition in document["defs"].items()
        }
        self._checks: dict[str, Check] = {}

    def check(self, ref: str) -> Check:
        """The check of `nsid` (its main definition) or `nsid#name`. Raises KeyError if no document has it."""
        key = ref if "#" in ref else f"{ref}#main"
        if key not in self._checks:
            self._checks[key] = self._definition(key)
        return self._checks[key]

    def _definition(self, key: str) -> Check:
        definition, nsid = self._definitions[key], key.partition("#")[0]
        type_name = key.removesuffix("#main")
        match definition["type"]:
            case "record":
                return self._object(definition["record"], nsid, type_name, required={"$type"})
            case "object":
                return self._object(definition, nsid, type_name)
            case "token":
                return checks.one_of((type_name,), str)
            case _:
                return self._inner(definition, nsid)

    def _inner(self, schema: Schema, nsid: str) -> Check:
        match schema["type"]:
            case "ref":
                return self.check(_absolute(schema["ref"], nsid))
            case "union":
                refs = [_absolute(ref, nsid) for ref in schema["refs"]]
                members = {ref.removesuffix("#main"): self.check(ref) for ref in refs}
                return checks.union(members, closed=schema.get("closed", False))
            case "array":
                return checks.array(self._inner(schema["items"], nsid), schema)
            case "object":
                return self._object(schema, nsid)
            case _:
                return checks.leaf(schema)

    def _object(self, schema: Schema, nsid: str, type_name: str = "", required: Iterable[str] = ()) -> Check:
        """`type_name` is what $type must be where there is one; an object inside another has none."""
        inner = {name: self._inner(item, nsid) for name, item in schema["properties"].items()}
        inner |= {name: checks.nullable(inner[name]) for name in schema.get("nullable", ())}
        if type_name:
            inner["$type"] = checks.one_of((type_name,), str)
        return checks.object_(inner, frozenset(schema.get("required", ())).union(required))


def _absolute(ref: str, nsid: str) -> str:
    return nsid + ref if ref.startswith("#") else ref
