"""How the payloads of a snapshot are packed for the output."""

from collections.abc import Iterator

from backfiller.publishing import next_of


def payloads(count: int, size: int) -> Iterator[bytes]:
    return (b"%d" % number + b"a" * size for number in range(count))


def test_a_batch_is_bounded_in_entries() -> None:
    drawn = payloads(25, 10)
    assert [len(next_of(drawn, 10, 1 << 20)) for _ in range(4)] == [10, 10, 5, 0]


def test_a_batch_is_bounded_in_bytes_and_never_empty_before_the_end() -> None:
    drawn = payloads(5, 1000)
    assert [len(next_of(drawn, 10, 2000)) for _ in range(4)] == [2, 2, 1, 0]
    assert len(next_of(payloads(5, 999), 10, 2000)) == 2  # 1,000 bytes each: full to the byte
    assert [len(next_of(payloads(5, 1000), 10, 1)) for _ in range(2)] == [1, 1]


def test_every_payload_is_there_in_its_order() -> None:
    drawn, found = payloads(25, 10), list[bytes]()
    while some := next_of(drawn, 10, 1 << 20):
        found += some
    assert found == list(payloads(25, 10))
