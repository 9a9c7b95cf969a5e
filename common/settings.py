"""Settings come from the environment, once, at start; a typo stops the daemon instead of being ignored."""

import dataclasses
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any, NewType, TypeVar

from common.errors import CannotStart

S = TypeVar("S")
Port = NewType("Port", int)
CountOrNone = NewType("CountOrNone", int)
NumberOrNone = NewType("NumberOrNone", float)
Share = NewType("Share", float)

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _names(raw: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in raw.split(",") if part.strip())


def _positive(raw: str) -> int:
    if (number := int(raw)) < 1:
        raise ValueError
    return number


def _none_or_more(raw: str) -> int:
    if (number := int(raw)) < 0:
        raise ValueError
    return number


def _above_none(raw: str) -> float:
    if not 0 < (number := float(raw)) < inf:  # nan is on neither side of anything
        raise ValueError
    return number


def _none_or_above(raw: str) -> float:
    if not 0 <= (number := float(raw)) < inf:
        raise ValueError
    return number


def _share(raw: str) -> float:
    if not 0.2 <= (number := float(raw)) <= 1:
        raise ValueError
    return number


def _port(raw: str) -> int:
    if not 0 <= (number := int(raw)) <= 65535:
        raise ValueError
    return number


PARSERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    str: ("text", str),
    int: ("a whole number above 0", _positive),
    CountOrNone: ("a whole number, or 0 for none", _none_or_more),
    Port: ("a port from 0 (none) to 65535", _port),
    float: ("a number above 0", _above_none),
    NumberOrNone: ("a number, 0 or more", _none_or_above),
    Share: ("a number from 0.2 to 1", _share),
    bool: ("true or false", lambda raw: _BOOLEANS[raw.lower()]),
    tuple[str, ...]: ("names separated by commas", _names),
}


def env(name: str, default: Any, help: str, *, secret: bool = False) -> Any:
    """Declare one setting: its variable, its default (None: it must be set) and a line for docs/settings.md.

    A secret never shows in the settings' repr, and may come from the file that NAME_FILE names.
    """
    return dataclasses.field(default=default, repr=not secret, metadata={"env": name, "help": help, "secret": secret})


def load(kind: type[S], environ: Mapping[str, str], prefix: str) -> S:
    """Settings of this kind. Raises CannotStart naming every problem at once.

    Variables that start with the daemon's prefix must all be known; those without it belong to others too.
    """
    declared = {field.metadata["env"]: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    known = {*declared, *(f"{name}_FILE" for name, field in declared.items() if field.metadata["secret"])}
    problems = [f"{name} is unknown" for name in environ if name.startswith(prefix) and name not in known]
    values: dict[str, Any] = {}
    for name, field in declared.items():
        raw = environ.get(name)
        if raw is None and field.metadata["secret"] and (path := environ.get(f"{name}_FILE")):
            raw = _content(path, name, problems)
        if raw is None:
            if field.default is None:
                problems.append(f"{name} must be set ({field.metadata['help']})")
            continue
        expected, parse = PARSERS[field.type]
        try:
            values[field.name] = parse(raw)
        except (ValueError, KeyError):
            shown = "its value" if field.metadata["secret"] else repr(raw)
            problems.append(f"{name}: {shown} is not {expected}")
    if problems:
        raise CannotStart("settings: " + "; ".join(sorted(problems)) + ". See docs/settings.md")
    return kind(**values)


def _content(path: str, name: str, problems: list[str]) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        problems.append(f"{name}_FILE: {error}")
        return None
