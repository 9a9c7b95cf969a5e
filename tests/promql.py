"""What a PromQL query reads, and through which functions: for checks of rules and boards without a Prometheus."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import promql_parser


@dataclass(frozen=True)
class Selected:
    """A metric that a query reads. `through`: the functions and aggregations around it, the innermost last."""

    name: str
    labels: frozenset[str]
    through: tuple[str, ...]


def selected(query: str) -> list[Selected]:
    """Raises ValueError if the query does not parse. Grafana's variables are filled in."""
    filled = query.replace("$__rate_interval", "1m").replace("$instance", ".+")
    return list(_walk(promql_parser.parse(filled), (), frozenset()))


def _walk(node: Any, through: tuple[str, ...], labels: frozenset[str]) -> Iterator[Selected]:
    match type(node).__name__:
        case "VectorSelector":
            matchers = {matcher.name: matcher.value for matcher in node.matchers.matchers}
            name = node.name or f"/{matchers['__name__']}/"
            yield Selected(name, labels | (set(matchers) - {"__name__"}), through)
        case "AggregateExpr":
            yield from _walk(node.expr, (*through, str(node.op)), labels | _named(node.modifier))
        case "Call":
            for argument in node.args:
                yield from _walk(argument, (*through, node.func.name), labels)
        case "NumberLiteral" | "StringLiteral":
            return
        case _:
            for part in ("lhs", "rhs", "expr", "vector_selector"):
                if hasattr(node, part):
                    yield from _walk(getattr(node, part), through, labels)


def _named(modifier: Any) -> frozenset[str]:
    """The labels of `by`; those of `without` are not read."""
    found = re.fullmatch(r"by \((.*)\)", str(modifier)) if modifier else None
    return frozenset(label.strip() for label in found[1].split(",") if label.strip()) if found else frozenset()


def names_meant(name: str, known: Sequence[str]) -> list[str]:
    """The metric itself, or those that a pattern for names means."""
    return [each for each in known if re.fullmatch(name.strip("/"), each)] if name.startswith("/") else [name]
