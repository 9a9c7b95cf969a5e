"""Commits as somebody on the way would alter them."""

from collections.abc import Callable
from typing import Any

from common.car import read_car
from common.dag_cbor import Link, cid_of, decode, encode
from tests.signed_commits import Body
from tests.signed_repos import car


def altered(raw: bytes, at: int, bit: int) -> bytes:
    return raw[:at] + bytes((raw[at] ^ 1 << bit,)) + raw[at + 1 :]


def sealed(body: Body, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Body:
    """The same with the commit object changed after it was signed, and all hashes right again."""
    blocks = list(blocks_of(body))
    changed = encode(change(_linked(decode(blocks[0]))))
    return body | {"commit": Link(cid_of(changed)), "blocks": car(cid_of(changed), [changed, *blocks[1:]])}


def _linked(commit_object: dict[str, Any]) -> dict[str, Any]:
    return commit_object | {"data": Link(commit_object["data"])}


def blocks_of(body: Body) -> list[bytes]:
    found = read_car(body["blocks"])
    return [found.blocks[found.root], *(block for cid, block in found.blocks.items() if cid != found.root)]
