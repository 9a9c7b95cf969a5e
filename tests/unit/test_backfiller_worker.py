"""How the events of a snapshot are packed for the output."""

from collections.abc import Iterator

from msgspec import Raw

from backfiller.worker import encoded
from common.events import CreateEvent, decode_event


def events(count: int, size: int) -> Iterator[CreateEvent]:
    for number in range(count):
        yield CreateEvent(
            seq=-1,
            time="2026-11-20T00:00:00.000Z",
            did="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
            commit="bafy",
            rev="3kq",
            collection="app.bsky.feed.post",
            rkey=str(number),
            cid="bafy",
            record=Raw(b'"%s"' % (b"a" * size)),
        )


def test_a_batch_is_bounded_in_entries() -> None:
    source = events(25, 10)
    assert [len(encoded(source, 10, 1 << 20)) for _ in range(4)] == [10, 10, 5, 0]


def test_a_batch_is_bounded_in_bytes_and_never_empty_before_the_end() -> None:
    source = events(5, 1000)
    assert [len(encoded(source, 10, 2000)) for _ in range(4)] == [2, 2, 1, 0]
    assert [len(encoded(events(5, 1000), 10, 1)) for _ in range(2)] == [1, 1]


def test_every_event_is_there_in_its_order() -> None:
    source, found = events(25, 10), []
    while payloads := encoded(source, 10, 1 << 20):
        found += [decode_event(payload) for payload in payloads]
    assert found == list(events(25, 10))
