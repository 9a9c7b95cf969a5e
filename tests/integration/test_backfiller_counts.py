"""What a backfiller shows of hosts that ask for a rest, and of records that cannot be read."""

from aiohttp import web
from redis.asyncio import Redis

from common.dag_cbor import encode
from common.did_documents import did_key
from tests.backfilling import Host, backfiller, enqueue, environment, host, idle, work_off
from tests.samples import sample
from tests.signed_repos import DID, Signer, record, repo
from tests.waiting import until

PATH = "app.bsky.feed.post/3mfxgt2k7ir2"


def serve(pds: Host, signer: Signer, *answers: bytes | web.Response) -> None:
    """This repo, in its order of answers, and a document that vouches for its signer."""
    key = did_key(signer.public).removeprefix("did:key:")
    pds.documents[DID] = {
        "id": DID,
        "service": [{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds.url}],
        "verificationMethod": [
            {"id": "#atproto", "type": "Multikey", "controller": DID, "publicKeyMultibase": key},
        ],
    }
    pds.repos[DID] = list(answers)


async def test_a_record_that_cannot_be_read_is_counted_apart(redis: Redis, redis_url: str) -> None:
    signer = Signer()
    names = ("backfiller_records_unreadable_total", "backfiller_records_extracted_total")
    before = [sample(name) for name in names]
    async with host() as pds:
        serve(pds, signer, repo({f"{PATH}2": record("good"), f"{PATH}3": encode(["no map"])}, signer))
        await enqueue(redis, [DID])
        await work_off(redis, environment(redis_url, pds.url))
    assert [sample(name) for name in names] == [before[0] + 1, before[1] + 1]


async def test_a_host_that_asked_for_a_rest_shows_until_it_is_over(redis: Redis, redis_url: str) -> None:
    signer = Signer()
    slow_down = web.Response(status=429, headers={"Retry-After": "1"})
    async with host() as pds:
        serve(pds, signer, slow_down, repo({f"{PATH}2": record("good")}, signer))
        await enqueue(redis, [DID])
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: sample("backfiller_hosts_left_alone", state="ratelimited") == 1)
            await until(lambda: idle(redis))
            assert sample("backfiller_hosts_left_alone", state="ratelimited") == 0
