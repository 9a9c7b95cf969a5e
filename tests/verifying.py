"""An account that has written, and what verification makes of its frames."""

from collections.abc import Callable
from functools import cache
from typing import Any

from common.collection_filter import CollectionFilter
from common.dag_cbor import decode_header_and_body
from common.errors import BadInput
from common.keys import PublicKey, key_in_document
from ingester.accounts import FIREHOSE
from ingester.frame_reader import FrameReader, KeyAnswer, Want
from ingester.framing import FrameResult
from ingester.verification import Mode
from sluice.recording import Recording
from tests.signed_commits import Body, Writer, frame
from tests.signed_repos import Signer, record

EVERYTHING = CollectionFilter(("*",))
SIGNER = Signer()
POSTS = [f"app.bsky.feed.post/3mfxgt2k7{number:04d}" for number in range(40)]
Change = Callable[[Body], Body]


def read(raw: bytes, key: PublicKey | str = SIGNER.public, mode: Mode = Mode.STRICT) -> FrameResult:
    """With the newest key of whoever it is of; or, for a text, with that for a reason why there is none."""
    reader = FrameReader(mode, EVERYTHING)
    found = reader.read(raw)
    if isinstance(found, Want):
        known = isinstance(key, PublicKey)
        found = reader.read(raw, KeyAnswer(found.did, key if known else None, True, "" if known else str(key)))
    if isinstance(found, BadInput):
        raise found
    assert isinstance(found, FrameResult)
    assert set(found.dropped) <= set(FIREHOSE.drop_reasons)
    return found


def busy_writer() -> Writer:
    writer = Writer(signer=SIGNER)
    writer.write({path: record(path) for path in POSTS[:30]})
    return writer


def some_commit() -> Body:
    """A create, an update and a delete in a repo of 30 records."""
    return busy_writer().write({POSTS[33]: record("new"), POSTS[4]: record("newer"), POSTS[9]: None})


def told(body: Body, **options: Any) -> FrameResult:
    return read(frame("#commit", body), **options)


@cache
def honest() -> Body:
    return some_commit()


def key_of(network: Recording, raw: bytes) -> PublicKey | str:
    _, body = decode_header_and_body(raw)
    did = body.get("repo") or body["did"]
    document = network.dids.get(did)
    return key_in_document(document, did) if document else "no_did_document"
