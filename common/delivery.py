"""One stream entry as a consumer was given it."""

from msgspec import Struct, field


class Delivery(Struct, frozen=True):
    """`payload` is None if the entry lacks the field asked for, or was trimmed away: then `fields` is empty."""

    id: bytes
    payload: bytes | None
    fields: dict[bytes, bytes] = field(default_factory=dict)
