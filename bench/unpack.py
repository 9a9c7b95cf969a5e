"""CAR -> stream entries on one core: what each step costs, and the whole of it into a Redis.

python -m bench.unpack [--records 50000]   (a repo made and signed here; every run checks what came out)
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from itertools import cycle, islice
from mmap import ACCESS_READ, mmap
from tempfile import TemporaryFile
from typing import TypeVar

import orjson
from libipld import decode_dag_cbor, encode_cid, encode_dag_cbor
from redis.asyncio import Redis

from backfiller.publishing import MAX_BATCH_BYTES, next_of
from backfiller.unpack import unpack
from bench.machine import load
from common.backpressure import Room
from common.car import read_car
from common.collection_filter import CollectionFilter
from common.dag_cbor import Link, cid_of, cid_text, encode
from common.dag_json import to_json
from common.events import EVENT_FIELD
from common.redis_connection import open_redis
from common.repo import is_path, read_commit, walk
from common.streams import FIREHOSE_BACKFILL, StreamWriter
from common.syntax import tid_at
from sluice.stack import embedded_redis
from tests.signed_repos import DID, Signer, repo

BATCH, ROUNDS = 500, 3
TIME = "2026-11-20T00:00:00.000Z"
IS_WANTED = CollectionFilter(("app.bsky.*", "chat.bsky.*"))
# how many of a hundred records of the network are of each type
MIX = {"app.bsky.feed.like": 58, "app.bsky.feed.post": 17, "app.bsky.graph.follow": 16, "app.bsky.feed.repost": 9}
SUBJECT = {"uri": "at://did:plc:wamjhyiaw4fvzcgeoeaiiuij/app.bsky.feed.post/3mfxgt2k7ir22"}

T = TypeVar("T")


async def main(count: int) -> None:
    chance = random.Random(1)
    records = dict(made(chance, number) for number in range(count))
    signer = Signer()
    car = repo(records, signer)
    print(f"{count:,} records, {len(car) / 1e6:.1f} MB, {load()}")
    measure_steps(car, signer, count)
    async with embedded_redis() as url, open_redis(url) as redis:
        start = time.process_time()
        await append_all(car, signer, redis)
        report("whole, into redis", time.process_time() - start, count)
        await check(records, redis)


def made(chance: random.Random, number: int) -> tuple[str, bytes]:
    """One record: its path, its block."""
    [collection] = chance.choices(list(MIX), list(MIX.values()))
    rkey = tid_at(1_760_000_000_000_000 + number * 1_000_003)
    return f"{collection}/{rkey}", record_block(chance, collection, number)


def record_block(chance: random.Random, collection: str, number: int) -> bytes:
    subject = SUBJECT | {"cid": cid_text(cid_of(number.to_bytes(8, "big")))}
    body: dict[str, object] = {"subject": subject}
    if collection == "app.bsky.graph.follow":
        body = {"subject": DID}
    if collection == "app.bsky.feed.post":
        image = {"$type": "blob", "ref": Link(cid_of(b"image")), "mimeType": "image/jpeg", "size": 123_456}
        body = {"text": "word " * chance.randint(1, 40), "langs": ["en"]}
        body |= {"embed": {"images": [{"alt": "", "image": image}]}} if number % 5 == 0 else {}
    return encode({"$type": collection, "createdAt": TIME} | body)


def measure_steps(car: bytes, signer: Signer, count: int) -> None:
    def walked() -> int:
        blocks = read_car(car)
        return sum(1 for _ in walk(blocks.blocks, read_commit(blocks.blocks[blocks.root]).data))

    def entries(data: bytes | mmap = car) -> int:
        drawn, total = unpack(data, DID, signer.public, IS_WANTED).payloads(TIME), 0
        while payloads := next_of(drawn, BATCH, MAX_BATCH_BYTES):
            total += len(payloads)
        return total

    bound_seconds, least_seconds = in_c(car, count)
    report("split, hash", measured(lambda: len(read_car(car).blocks))[0], count)
    report("... walk", measured(walked)[0], count)
    seconds, total = measured(entries)
    report("... decode, encode", seconds, count)
    assert total == count + 1  # noqa: S101 - a benchmark of something wrong is worth nothing
    print(f"{len(car) / seconds / 1e6:.1f} MB/s, {bound_seconds / seconds:.2f} of the bound; ", end="")
    print(f"without a step of Python it could be {bound_seconds / least_seconds:.2f}")
    with TemporaryFile() as file:
        file.write(car)
        file.flush()
        with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            report("... from a file", measured(lambda: entries(mapped))[0], count)


def in_c(car: bytes, count: int) -> tuple[float, float]:
    """CPU seconds to hash and to decode each block; and of all calls into C that payloads cannot be made without."""
    blocks = read_car(car).blocks
    keys, cids = zip(*walk(blocks, read_commit(blocks[read_car(car).root]).data), strict=True)
    few = [blocks[cid] for cid in cids[:BATCH]]  # what comes of a record is used before the next one is looked at
    values, texts = [decode_dag_cbor(record) for record in few], [to_json(record) for record in few]
    payload = b"a" * 280 + b"%b%b"  # about as long as what surrounds a record
    calls: dict[str, Callable[[], Iterator[object]]] = {
        "hash all blocks": lambda: (sha256(block).digest() for block in blocks.values()),
        "decode all blocks": lambda: (decode_dag_cbor(block) for block in blocks.values()),
        "cut out all blocks": lambda: ((car[at : at + 36], car[at : at + 250]) for at in range(len(blocks))),
        "hash the keys": lambda: (sha256(key).digest() for key in keys),
        "match the keys": lambda: (is_path(key) for key in keys),
        "encode, to compare": lambda: (encode_dag_cbor(value) for value in islice(cycle(values), count)),
        "write as JSON": lambda: (orjson.dumps(value, str) for value in islice(cycle(values), count)),
        "CIDs as text": lambda: (encode_cid(cid) for cid in cids),
        "payloads": lambda: (payload % (key, text) for key, text in zip(keys, cycle(texts), strict=False)),
    }
    seconds: dict[str, float] = {}
    for name, call in calls.items():
        seconds[name] = measured(partial(each, call))[0]
        report(f"  {name}", seconds[name], count)
    return seconds["hash all blocks"] + seconds["decode all blocks"], sum(seconds.values())


def each(call: Callable[[], Iterator[object]]) -> None:
    for _ in call():
        pass


def measured(call: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of the best of a few rounds, and what came of it."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        outcome = call()
        rounds.append((time.process_time() - start, outcome))
    return min(rounds, key=lambda one: one[0])


async def append_all(car: bytes, signer: Signer, redis: Redis) -> None:
    output = StreamWriter(redis, FIREHOSE_BACKFILL, EVENT_FIELD, Room(redis, FIREHOSE_BACKFILL, 100_000_000))
    drawn, stop = unpack(car, DID, signer.public, IS_WANTED).payloads(TIME), asyncio.Event()
    while payloads := next_of(drawn, BATCH, MAX_BATCH_BYTES):
        await output.append(payloads, stop)


async def check(records: Mapping[str, bytes], redis: Redis) -> None:
    """Every record is there under its CID, once, and then the end of the snapshot."""
    *events, end = [json.loads(fields[b"event"]) for _, fields in await redis.xrange(FIREHOSE_BACKFILL)]
    found = {f"{event['collection']}/{event['rkey']}": event["cid"] for event in events}
    wrong = found != {path: cid_text(cid_of(block)) for path, block in records.items()} or len(events) != len(found)
    if wrong or end["snapshot"]["index"] != len(records):
        raise SystemExit("what came out is not what went in")
    print("checked: every record once, under its CID")


def report(step: str, seconds: float, records: int) -> None:
    print(f"{step:20}{seconds / records * 1e6:8.1f} us/record{records / seconds:12,.0f} records/s of one core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=50_000)
    asyncio.run(main(parser.parse_args().records))
