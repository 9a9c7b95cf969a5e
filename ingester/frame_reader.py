"""Reads and verifies the frames of the firehose, with the signing keys that it has seen lately at hand."""

import time
from collections import OrderedDict
from functools import partial

from msgspec import Struct

from common.errors import BadInput
from common.events import IdentityEvent
from common.keys import PublicKey
from ingester.commits import CollectionTest
from ingester.frames import Prove, events_of, taken_at_its_word
from ingester.framing import FrameResult
from ingester.verification import KeyWanted, KnownKey, Mode, proof_of

KEYS_KEPT = 50_000  # of 0.4 KB each; the accounts that write on the network in an hour or two
KEPT_SECONDS = 3600.0


class KeyAnswer(Struct, frozen=True):
    """What is known of an account's key: the key, or the reason why there is none."""

    did: str
    key: PublicKey | None
    is_newest: bool = False
    reason: str = ""


class Want(Struct, frozen=True):
    """A frame cannot be judged without this account's key, or without a newer one than `tried`: ask, and read again."""

    did: str
    tried: PublicKey | None


Outcome = FrameResult | Want | BadInput


class FrameReader:
    """Knows nobody to ask: whoever calls it finds the keys."""

    def __init__(self, mode: Mode, is_wanted: CollectionTest) -> None:
        self.is_wanted = is_wanted
        self._mode = mode
        self._keys: OrderedDict[str, tuple[PublicKey, float]] = OrderedDict()

    def read(self, frame: bytes, answer: KeyAnswer | None = None) -> Outcome:
        """The BadInput, if there is one, is that of a frame which cannot be read at all."""
        try:
            result = events_of(frame, self.is_wanted, self._prover(answer))
        except KeyWanted as wanted:
            return Want(wanted.did, wanted.tried)
        except BadInput as bad:
            return bad
        for event in result.events:
            if isinstance(event, IdentityEvent):
                self.forget(event.did)
        return result

    def _prover(self, answer: KeyAnswer | None) -> Prove:
        if self._mode is Mode.OFF:
            return taken_at_its_word
        return partial(proof_of, key_of=partial(self._key_of, answer), mode=self._mode, now_seconds=time.time())

    def forget(self, did: str) -> None:
        self.learn(did, None)

    def learn(self, did: str, key: PublicKey | None) -> None:
        """The account's key from now on; None if that is not known."""
        self._keys.pop(did, None)
        if key is None:
            return
        self._keys[did] = key, time.monotonic() + KEPT_SECONDS
        if len(self._keys) > KEYS_KEPT:
            self._keys.popitem(last=False)

    def _key_of(self, answer: KeyAnswer | None, did: str) -> KnownKey:
        if answer is not None and answer.did == did:
            if answer.key is None:
                raise BadInput(answer.reason, did)
            self.learn(did, answer.key)
            return KnownKey(answer.key, answer.is_newest)
        key, until = self._keys.get(did, (None, 0.0))
        if key is None or until < time.monotonic():
            raise KeyWanted(did)
        self._keys.move_to_end(did)
        return KnownKey(key, is_newest=False)
