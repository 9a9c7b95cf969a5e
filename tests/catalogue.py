"""Reads the catalogue of one schema in the form of tests/data/bsky-schema.json, for an exact comparison."""

from collections import defaultdict
from typing import Any

import asyncpg

_KINDS = {"r": "table", "m": "materialized view"}

_RELATIONS = """
SELECT c.oid, c.relname, c.relkind::text AS relkind,
    CASE WHEN c.relkind = 'm' THEN pg_get_viewdef(c.oid) END AS definition
FROM pg_class c WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'm')
"""

_COLUMNS = """
SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable,
    pg_get_expr(d.adbin, d.adrelid) AS default, a.attgenerated::text AS generated
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'm')
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = $1::text::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

# contype n (NOT NULL, a constraint since Postgres 18) is a property of the column here
_CONSTRAINTS = """
SELECT o.conrelid, o.conname, o.contype::text AS contype, pg_get_constraintdef(o.oid) AS definition,
    ARRAY(
        SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY AS k (attnum, position)
        JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.attnum ORDER BY k.position
    ) AS columns
FROM pg_constraint o WHERE o.connamespace = $1::text::regnamespace AND o.contype IN ('p', 'u', 'f', 'c')
"""

_INDEXES = """
SELECT i.indrelid, c.relname, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = $1::text::regnamespace AND i.indisvalid
"""


async def catalogue(connection: asyncpg.Connection, schema: str) -> dict[str, dict[str, Any]]:
    """{relation: its columns, keys, constraints and indexes}, without the name of the schema.

    Columns stand in their physical order.
    """
    # what the search path finds is written without its schema, so that only index targets are left to strip
    await connection.execute(f'SET search_path TO "{schema}", public')
    columns, constraints, indexes = [
        _by_relation(await connection.fetch(query, f'"{schema}"')) for query in (_COLUMNS, _CONSTRAINTS, _INDEXES)
    ]
    relations = await connection.fetch(_RELATIONS, f'"{schema}"')
    await connection.execute("RESET search_path")
    return {
        relation["relname"]: {
            "kind": _KINDS[relation["relkind"]],
            "columns": {row["attname"]: _column(row) for row in columns[relation["oid"]]},
            **_keys(constraints[relation["oid"]]),
            "indexes": {
                row["relname"]: row["definition"].replace(f" ON {schema}.", " ON ") for row in indexes[relation["oid"]]
            },
            **({"definition": relation["definition"]} if relation["definition"] else {}),
        }
        for relation in relations
    }


def _by_relation(rows: list[asyncpg.Record]) -> dict[int, list[asyncpg.Record]]:
    grouped: dict[int, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        grouped[row[0]].append(row)
    return grouped


def _column(row: asyncpg.Record) -> dict[str, Any]:
    column = {"type": row["type"], "nullable": row["nullable"], "default": row["default"]}
    return column | ({"generated": row["generated"]} if row["generated"] else {})


def _keys(constraints: list[asyncpg.Record]) -> dict[str, Any]:
    of_kind = {kind: [row for row in constraints if row["contype"] == kind] for kind in "pufc"}
    return {
        "primaryKey": [column for row in of_kind["p"] for column in row["columns"]],
        "unique": {row["conname"]: list(row["columns"]) for row in of_kind["u"]},
        "foreignKeys": {row["conname"]: row["definition"] for row in of_kind["f"]},
        "checks": {row["conname"]: row["definition"] for row in of_kind["c"]},
    }
