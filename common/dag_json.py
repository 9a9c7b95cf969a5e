"""Records between DAG-CBOR and the JSON of the AT Protocol, exact both ways (spec: data-model).

Whoever reads `record.json` must be able to compute the record's CID from it. So a link is `{"$link"}` and a byte string
`{"$bytes"}` by what the block says, never by what the bytes look like, and what JSON would confuse is refused.
"""

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from typing import Any

import orjson
from libipld import decode_dag_cbor, encode_cid, encode_dag_cbor

from common.dag_cbor import MAX_DEPTH, check, cid_from_text, decode_checked, encode
from common.errors import BadInput

MAX_RECORD_BYTES = 1 << 20
MAX_SAFE_INTEGER = (1 << 53) - 1
_RESERVED = ("$link", "$bytes")
_PLAIN_BYTES = 4096
_NO_CONTAINER = bytes(byte for byte in range(256) if not 0x80 <= byte <= 0xBF)
_RESERVED_IN = re.compile(rb"\$(?:link|bytes)")


def to_json(block: bytes) -> bytes:
    """A record block as JSON without spaces, keys in the order of the block, base64 without padding.

    Raises BadInput("bad_cbor") for what is not DAG-CBOR, BadInput("bad_record") for what is no record: not a map, too
    large, integers beyond ±(2^53-1), or a literal `$link` or `$bytes` key.
    """
    if len(block) > MAX_RECORD_BYTES:
        raise BadInput("bad_record", "too large")
    return _plain_json(block) or _exact_json(block)


def _plain_json(block: bytes) -> bytes | None:
    """Of a small record without links and byte strings, as most are, in a third of the time; None of all others.

    Few bytes that may begin a container mean that nothing is deep, and what encodes to what it was decoded from is
    canonical.
    """
    if len(block) > _PLAIN_BYTES or len(block.translate(None, _NO_CONTAINER)) > MAX_DEPTH or _RESERVED_IN.search(block):
        return None
    try:
        record = decode_dag_cbor(block)
        if not isinstance(record, dict) or encode_dag_cbor(record) != block:
            return None
        return orjson.dumps(record, None, orjson.OPT_STRICT_INTEGER)
    except (ValueError, orjson.JSONEncodeError):
        return None


def _exact_json(block: bytes) -> bytes:
    kinds = iter(check(block))
    record = decode_checked(block)
    if not isinstance(record, dict):
        raise BadInput("bad_record", "not a map")
    if _RESERVED_IN.search(block):
        _refuse_reserved_keys(record)
    try:
        return orjson.dumps(record, lambda raw: _json_form(raw, kinds), orjson.OPT_STRICT_INTEGER)
    except orjson.JSONEncodeError as error:
        raise BadInput("bad_record", str(error)) from error


def json_to_block(text: bytes) -> bytes:
    """The inverse of `to_json`. Raises BadInput("bad_record")."""
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadInput("bad_record", str(error)) from error
    if not isinstance(record, dict) or any(key in record for key in _RESERVED):
        raise BadInput("bad_record", "not a map")
    return encode(_from_json(record, MAX_DEPTH))


def _json_form(raw: bytes, kinds: Iterator[bool]) -> dict[str, str]:
    """orjson asks for the bytes of a record in their order, which is the order in which `check` saw them."""
    if len(raw) > 23 and next(kinds):
        return {"$link": encode_cid(raw)}
    return {"$bytes": b2a_base64(raw, newline=False).rstrip(b"=").decode()}


def _refuse_reserved_keys(value: Any) -> None:
    if isinstance(value, dict):
        if any(key in value for key in _RESERVED):
            raise BadInput("bad_record", "a reserved key")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _refuse_reserved_keys(item)


def _from_json(value: Any, depth: int) -> Any:
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        raise BadInput("bad_record", "integer beyond 53 bits")
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        raise BadInput("bad_record", "too deep")
    if isinstance(value, list):
        return [_from_json(item, depth - 1) for item in value]
    if any(key in value for key in _RESERVED):
        return _link_or_bytes(value)
    return {key: _from_json(item, depth - 1) for key, item in value.items()}


def _link_or_bytes(value: dict[str, Any]) -> bytes:
    ((key, text), *others) = value.items()
    if others or not isinstance(text, str):
        raise BadInput("bad_record", f"{key} is not alone or no text")
    try:
        return cid_from_text(text) if key == "$link" else a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except (Base64Error, ValueError, BadInput) as error:
        raise BadInput("bad_record", f"{key} {text[:80]}") from error
