"""The ingester as a process that reads labels: what is forged, and a directory that is away."""

import json
from typing import Any

from redis.asyncio import Redis

from common.dag_cbor import decode_header_and_body, encode
from sluice.network import RecordedNetwork
from tests.ingesting import (
    IDENTITY,
    Event,
    StartIngester,
    host,
    labeler,
    on_the_stream,
    recorded,
    until_cursor,
    until_listed,
    until_log,
    until_metric,
)
from tests.recorded_network import StartNetwork
from tests.waiting import until


async def test_everything_that_was_recorded_stands_on_the_streams(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    daemon = await ingester(served, **(labeler(served) | {"INGESTER_MODE": "all"}))
    await until_cursor(redis, served)
    await until_metric(
        daemon, "written_total source=labeler", lambda labels: labels == served.recording.count_operations().labels
    )
    await until_listed(redis, served)
    repos = len(served.recording.repos)
    metrics = await until_metric(daemon, "written_total source=listing", lambda listed: listed == repos)
    assert await on_the_stream(redis) == recorded(served.recording.frames)
    labels: Any = await redis.xrange("label_live")
    assert [values_of(json.loads(fields[b"labels"])) for _, fields in labels] == [
        values_of(decode_header_and_body(frame)[1]) for frame in served.recording.labels
    ]
    assert await redis.xlen("repo_backfill") == repos
    assert await redis.get(f"label_live:cursor:{host(served)}") == str(served.recording.last_label_seq).encode()
    assert await daemon.end() == 0
    assert metrics.unaccounted == 0


async def test_a_forged_label_is_dropped_and_the_cursor_goes_on(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    served.labels.append(forged(served))
    daemon = await ingester(served, **labeler(served))
    await until_label_cursor(redis, served)
    metrics = await until_metric(daemon, "written_total source=labeler", lambda labels: labels == 6)
    assert [len(labels) for _, labels in await labels_on_the_stream(redis)] == [1] * 6
    assert metrics["dropped_total reason=bad_signature"] == metrics["dropped_total source=labeler"] == 1
    assert "labels refused" in daemon.messages()
    await until_cursor(redis, served)
    assert await daemon.end() == 0


async def test_told_not_to_verify_it_takes_any_label(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    served.labels.append(forged(served))
    await ingester(served, **labeler(served), INGESTER_VERIFY_LABELS="false", INGESTER_VERIFY="off")
    await until_label_cursor(redis, served)
    assert [len(labels) for _, labels in await labels_on_the_stream(redis)] == [1, 1, 1, 1, 1, 2]
    assert not any("did:" in path for path in served.requests)


async def test_labels_wait_for_the_directory_and_nothing_else_does(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    served.faults.statuses["/did:plc:"] = 500
    daemon = await ingester(served, **labeler(served), INGESTER_VERIFY="off")
    waiting = await until_metric(daemon, "errors_by_reason_total reason=no_did_document", lambda errors: errors >= 1)
    await until_cursor(redis, served)
    assert (waiting["labeler_events_total"], waiting["dropped_total source=labeler"]) == (0, 0)
    assert await redis.exists("label_live", f"label_live:cursor:{host(served)}") == 0
    del served.faults.statuses["/did:plc:"]
    await until_label_cursor(redis, served)
    assert len(await labels_on_the_stream(redis)) == 5
    assert (await daemon.metrics())["dropped_total source=labeler"] == 0
    assert daemon.messages().count("no DID document to verify labels with, waiting") == 1


async def test_told_to_stop_while_labels_wait_it_stops_where_they_are(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    served.faults.statuses["/did:plc:"] = 500
    daemon = await ingester(served, **labeler(served))
    await until_log(daemon, "no DID document to verify labels with, waiting")
    assert await daemon.end() == 0
    assert "cancelled after the grace period" not in daemon.messages()
    assert await redis.exists("label_live", f"label_live:cursor:{host(served)}") == 0


def forged(network: RecordedNetwork) -> bytes:
    """What the labeler says next: its last label, and the same about somebody else with the same signature."""
    _, body = decode_header_and_body(network.recording.labels[4])
    (label,) = body["labels"]
    labels = [label, label | {"uri": IDENTITY}]
    return encode({"op": 1, "t": "#labels"}) + encode({"seq": network.labels.last_seq + 1, "labels": labels})


def values_of(labels: dict[str, Any]) -> tuple[int, list[Event]]:
    names = ("src", "uri", "cid", "val", "neg", "cts", "exp")
    return labels["seq"], [tuple(label.get(name) for name in names) for label in labels["labels"]]


async def labels_on_the_stream(redis: Redis) -> list[Any]:
    entries: Any = await redis.xrange("label_live")
    return [values_of(json.loads(fields[b"labels"])) for _, fields in entries]


async def until_label_cursor(redis: Redis, network: RecordedNetwork) -> None:
    async def is_there() -> bool:
        return int(await redis.get(f"label_live:cursor:{host(network)}") or 0) >= network.labels.last_seq

    await until(is_there)
