"""The frames of a recorded network: a u32 length before each websocket message, from cursor 0."""

from pathlib import Path
from typing import Any

from common.dag_cbor import decode_header_and_body


def frames(path: Path) -> list[bytes]:
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


BASIC = frames(Path(__file__).parent / "data" / "frames" / "basic.bin")


def commits() -> list[dict[str, Any]]:
    """The bodies of the #commit frames."""
    decoded = [decode_header_and_body(frame) for frame in BASIC]
    return [body for header, body in decoded if header["t"] == "#commit"]
