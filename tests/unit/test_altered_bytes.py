"""Of a commit that is honest no byte can be another: it would not be taken."""

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from common.dag_cbor import Link, decode_header_and_body
from common.errors import BadInput
from tests.altered_commits import altered, sealed
from tests.conftest import OpenRecording
from tests.signed_commits import Body
from tests.verifying import honest, key_of, read, told

bits = st.integers(0, 7)


def is_refused(body: Body) -> bool:
    """As a commit, or already as a frame that cannot be read."""
    try:
        result = told(body)
    except BadInput:
        return True
    return result.events == () and result.received == sum(result.dropped.values()) == 1 and result.link is None


@given(st.integers(0, len(honest()["blocks"]) - 1), bits)
def test_no_bit_of_the_car_can_be_another(at: int, bit: int) -> None:
    assert is_refused(honest() | {"blocks": altered(honest()["blocks"], at, bit)})


def test_no_byte_of_the_car_can_be_another() -> None:
    """Each once, in the order in which they stand."""
    blocks = honest()["blocks"]
    assert all(is_refused(honest() | {"blocks": altered(blocks, at, at % 8)}) for at in range(len(blocks)))


@given(st.integers(0, 63), bits)
def test_no_bit_of_the_signature_can_be_another(at: int, bit: int) -> None:
    body = sealed(honest(), lambda fields: fields | {"sig": altered(fields["sig"], at, bit)})
    assert told(body).dropped == {"bad_signature": 1}


@given(st.sampled_from(["rev", "did"]), st.data())
def test_no_byte_of_what_was_signed_can_be_another(name: str, data: st.DataObject) -> None:
    def change(fields: dict[str, Any]) -> dict[str, Any]:
        text = fields[name].encode()
        at = data.draw(st.integers(0, len(text) - 1))
        return fields | {name: altered(text, at, data.draw(st.integers(0, 5))).decode()}

    assert is_refused(sealed(honest(), change))


@given(st.integers(0, 2), st.sampled_from(["cid", "prev", "path", "action"]), st.data())
def test_no_byte_of_an_operation_can_be_another(index: int, name: str, data: st.DataObject) -> None:
    op = honest()["ops"][index]
    value = op.get(name)
    assume(value is not None)
    raw = value.encode() if isinstance(value, str) else value
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = altered(raw, at, data.draw(st.integers(0, 6)))
    told_value = changed.decode() if isinstance(value, str) else Link(changed)
    ops = [op | {name: told_value} if op is each else each for each in honest()["ops"]]
    assert is_refused(honest() | {"ops": ops})


@given(st.integers(0, 35), bits)
def test_no_bit_of_what_was_before_can_be_another(at: int, bit: int) -> None:
    assert is_refused(honest() | {"prevData": Link(altered(honest()["prevData"], at, bit))})


@given(st.sampled_from(["rev", "repo"]), st.data())
def test_no_byte_of_the_envelope_can_be_another(name: str, data: st.DataObject) -> None:
    text = honest()[name].encode()
    at = data.draw(st.integers(0, len(text) - 1))
    assert is_refused(honest() | {name: altered(text, at, data.draw(st.integers(0, 6))).decode()})


def test_no_recorded_commit_survives_an_altered_byte(recording: OpenRecording) -> None:
    """A sample of the CARs that real software made, a byte of each in turn."""
    network = recording("full")
    commits = [raw for raw in network.frames if decode_header_and_body(raw)[0]["t"] == "#commit"]
    assert len(commits) > 100
    for number, raw in enumerate(commits[::3]):
        _, body = decode_header_and_body(raw)
        at = number * 7919 % len(body["blocks"])
        changed = raw.replace(body["blocks"], altered(body["blocks"], at, number % 8))
        assert read(changed, key=key_of(network, raw)).events == ()
