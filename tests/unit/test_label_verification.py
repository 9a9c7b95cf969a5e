"""Labels are taken from the labeler that lives at the host, with its signature, and from nobody else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from common import identity
from common.keys import Curve
from ingester import label_verification
from ingester.accounts import LABELER as SOURCE
from ingester.accounts import Account, units
from ingester.label_frames import events_of, labels_of
from ingester.label_verification import LabelVerification
from ingester.upstream import upstreams
from tests import labelers
from tests.directory import Directory, identities
from tests.labelers import CTS, HOST, LABELER, document, frame, signed
from tests.samples import sample
from tests.signed_repos import ORDERS, Signer
from tests.waiting import until

SIGNER, OTHER = Signer(), Signer(number=8)
STRANGER = "did:plc:strangerstrangerstranger"
Verified = tuple[list[str], dict[str, int]]
StartVerification = Callable[..., Awaitable[LabelVerification]]


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Directory:
    """Knows the labeler. What went wrong there is tried again soon."""
    monkeypatch.setattr(label_verification, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(identity, "FAILURE_KEPT_SECONDS", 0.0)
    return Directory({LABELER: document(SIGNER)})


@pytest.fixture
async def verification(directory: Directory) -> AsyncIterator[StartVerification]:
    async with AsyncExitStack() as stack:

        async def started(host: str = HOST, did: str = "") -> LabelVerification:
            (upstream,) = upstreams("INGESTER_LABELER_HOSTS", (host,))
            resolver = await stack.enter_async_context(identities(directory))
            return LabelVerification(resolver, upstream, Account(SOURCE), did)

        yield started


async def outcome(verification: LabelVerification, *labels: Any) -> Verified:
    """The values of the labels that were let through, and why the others were not."""
    async with asyncio.timeout(60):
        result = await verification.verified(events_of(frame(*labels)))
    assert result.received == units(result.events) + sum(result.dropped.values())
    return [label.val for label in labels_of(result)], dict(result.dropped)


@pytest.mark.parametrize("curve", ["k256", "p256"])
async def test_a_label_with_its_labelers_signature_is_let_through(
    curve: Curve, directory: Directory, verification: StartVerification
) -> None:
    signer = Signer(curve)
    directory.answers[LABELER] = document(signer)
    labels = [signed(signer, val="a", neg=True), signed(signer, val="b", exp=CTS, cid="bafyx", new=5)]
    assert await outcome(await verification(), *labels) == (["a", "b"], {})
    assert directory.requests == {LABELER: 1}


@pytest.mark.parametrize(
    "change",
    [
        {"val": "rude"},
        {"uri": labelers.ACCOUNT},
        {"cts": "2026-11-20T22:34:24.8Z"},
        {"neg": True},
        {"exp": CTS},
        {"cid": "bafyx"},
        {"new": 1},
        {"sig": SIGNER.sign(b"something else")},
        {"sig": b""},
        {"sig": "text"},
        {"sig": None},
    ],
)
async def test_a_label_that_was_changed_is_refused_and_costs_none_of_its_siblings(
    change: dict[str, Any], verification: StartVerification
) -> None:
    good = signed(SIGNER)
    assert await outcome(await verification(), good, good | change, good) == (["spam"] * 2, {"bad_signature": 1})


async def test_a_label_that_lost_a_field_is_refused(verification: StartVerification) -> None:
    withdrawal = signed(SIGNER, neg=True)
    del withdrawal["neg"]
    assert await outcome(await verification(), withdrawal) == ([], {"bad_signature": 1})


async def test_the_other_form_of_a_signature_is_refused(verification: StartVerification) -> None:
    good = signed(SIGNER)
    s = ORDERS["k256"] - int.from_bytes(good["sig"][32:], "big")
    high = good | {"sig": good["sig"][:32] + s.to_bytes(32, "big")}
    assert await outcome(await verification(), high) == ([], {"bad_signature": 1})


async def test_no_other_key_of_the_labeler_will_do(directory: Directory, verification: StartVerification) -> None:
    directory.answers[LABELER] = document(SIGNER, key="#atproto")
    assert await outcome(await verification(), signed(SIGNER)) == ([], {"bad_signature": 1})


async def test_what_a_labeler_says_in_anothers_name_is_refused(
    directory: Directory, verification: StartVerification
) -> None:
    directory.answers[STRANGER] = document(OTHER, STRANGER)
    labels = [signed(SIGNER), signed(SIGNER, src=STRANGER), signed(OTHER, src=STRANGER)]
    assert await outcome(await verification(), *labels) == (["spam"], {"foreign_src": 2})
    assert directory.requests == {LABELER: 1}, "once the labeler is known, nobody is asked about others"


async def test_the_labeler_is_who_names_the_host_whoever_is_named_before(
    directory: Directory, verification: StartVerification
) -> None:
    directory.answers[STRANGER] = document(OTHER, STRANGER, "https://elsewhere.example.com")
    nobody = "did:plc:nobodynobodynobodynobody"
    labels = [signed(OTHER, src=STRANGER), signed(OTHER, src=nobody), signed(SIGNER)]
    assert await outcome(await verification(), *labels) == (["spam"], {"foreign_src": 2})


async def test_a_labeler_whose_did_is_known_needs_no_finding(
    directory: Directory, verification: StartVerification
) -> None:
    directory.answers[STRANGER] = document(OTHER, STRANGER)
    labels = [signed(OTHER, src=STRANGER), signed(SIGNER)]
    assert await outcome(await verification(did=LABELER), *labels) == (["spam"], {"foreign_src": 1})
    assert directory.requests == {LABELER: 1}


@pytest.mark.parametrize(
    ("host", "endpoint", "is_named"),
    [
        ("mod.example.com", "https://mod.example.com", True),
        ("wss://MOD.example.com:443", "https://mod.example.com/", True),
        ("mod.example.com", "https://mod.example.com:443", True),
        ("ws://127.0.0.1:2583", "http://127.0.0.1:2583", True),
        ("wss://[::1]:2583", "https://[::1]:2583", True),
        ("xn--mnchen-3ya.de", "https://xn--mnchen-3ya.de", True),
        ("mod.example.com", "http://mod.example.com", False),
        ("mod.example.com", "https://mod.example.com:8443", False),
        ("mod.example.com", "https://example.com", False),
        ("mod.example.com", "https://mod.example.com.test", False),
        ("mod.example.com", "https://mod.example.com/path", False),
        ("mod.example.com", "", False),
    ],
)
async def test_an_endpoint_names_a_host_however_both_are_spelled(
    host: str, endpoint: str, is_named: bool, directory: Directory, verification: StartVerification
) -> None:
    directory.answers[LABELER] = document(SIGNER, endpoint=endpoint)
    assert (await outcome(await verification(host), signed(SIGNER)))[0] == ["spam"] * is_named


async def test_a_new_key_is_looked_up_once(
    directory: Directory, verification: StartVerification, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifying = await verification()
    assert (await outcome(verifying, signed(SIGNER)))[0] == ["spam"]
    directory.answers[LABELER] = document(OTHER)
    monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
    assert (await outcome(verifying, signed(OTHER)))[0] == ["spam"]
    assert (await outcome(verifying, signed(OTHER)))[0] == ["spam"]
    assert await outcome(verifying, signed(SIGNER)) == ([], {"bad_signature": 1})
    assert directory.requests == {LABELER: 3}


async def test_many_bad_signatures_do_not_make_many_questions(
    directory: Directory, verification: StartVerification
) -> None:
    bad = [signed(SIGNER, val=str(number)) | {"val": "x"} for number in range(100)]
    assert await outcome(await verification(), *bad) == ([], {"bad_signature": 100})
    assert directory.requests == {LABELER: 1}


async def test_labels_without_signatures_make_no_question(
    directory: Directory, verification: StartVerification, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
    unsigned = [labelers.label(), labelers.label(sig=bytes(63))]
    assert await outcome(await verification(), signed(SIGNER), *unsigned) == (["spam"], {"bad_signature": 2})
    assert directory.requests == {LABELER: 1}


@pytest.mark.parametrize("trouble", [500, {"id": "did:plc:someoneelsesomeoneelse22"}])
async def test_a_document_that_cannot_be_had_is_waited_for(
    trouble: Any, directory: Directory, verification: StartVerification
) -> None:
    directory.answers[LABELER] = trouble
    failed = errors()
    verifying = asyncio.create_task(outcome(await verification(), signed(SIGNER)))
    await until(lambda: verifying.done() or directory.requests[LABELER] >= 3)
    assert not verifying.done()
    directory.answers[LABELER] = document(SIGNER)
    assert await verifying == (["spam"], {})
    assert errors() - failed >= 2


@pytest.mark.parametrize("status", [503, 404])
async def test_a_new_key_that_cannot_be_looked_up_is_waited_for(
    status: int, directory: Directory, verification: StartVerification, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifying = await verification()
    assert (await outcome(verifying, signed(SIGNER)))[0] == ["spam"]
    monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(identity, "NOT_FOUND_KEPT_SECONDS", 0.0)
    directory.answers[LABELER] = status
    waiting = asyncio.create_task(outcome(verifying, signed(OTHER)))
    await until(lambda: waiting.done() or directory.requests[LABELER] >= 3)
    directory.answers[LABELER] = document(OTHER)
    assert await waiting == (["spam"], {})


async def test_a_labeler_that_was_taken_away_signs_nothing(
    directory: Directory, verification: StartVerification, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifying = await verification()
    assert (await outcome(verifying, signed(SIGNER)))[0] == ["spam"]
    monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
    directory.answers[LABELER] = 410
    assert await outcome(verifying, signed(OTHER)) == ([], {"bad_signature": 1})
    assert await outcome(verifying, signed(SIGNER)) == ([], {"bad_signature": 1})


async def test_refusals_are_logged_once_for_each_reason(
    verification: StartVerification, caplog: pytest.LogCaptureFixture
) -> None:
    verifying = await verification()
    unsigned, foreign = labelers.label(), signed(OTHER, src=STRANGER)
    for label in (signed(SIGNER), unsigned, foreign, signed(SIGNER), unsigned, foreign):
        await outcome(verifying, label)
    refusals = [record for record in caplog.records if record.message == "labels refused"]
    assert [vars(record)["reason"] for record in refusals] == ["bad_signature", "foreign_src"]


def errors() -> float:
    return sample("ingester_errors_by_reason_total", source="labeler", reason="no_did_document")
