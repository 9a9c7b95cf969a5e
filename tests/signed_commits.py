"""An account that writes: its repo, and the frames that its server would send, signed and complete."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.dag_cbor import Link, cid_of, encode
from common.syntax import tid_at
from tests.signed_repos import DID, Blocks, Signer, car, commit, tree

TIME = "2026-11-20T22:33:50.656Z"
FIRST_MICROSECONDS = 1_760_000_000_000_000
Body = dict[str, Any]


def frame(kind: str, body: Body, seq: int = 1) -> bytes:
    return encode({"op": 1, "t": kind}) + encode({"time": TIME} | body | {"seq": seq})


@dataclass
class Writer:
    """`write` changes the repo and gives the body of the #commit that says so."""

    did: str = DID
    signer: Signer = field(default_factory=Signer)
    records: Blocks = field(default_factory=dict)  # path -> block
    commits: int = 0
    rev: str | None = None

    def write(self, records: Mapping[str, bytes | None]) -> Body:
        """`records`: path -> the block that is there from now on; None for what goes."""
        before = {path: cid_of(block) for path, block in self.records.items()}
        was, _ = tree(before)
        self.records = {path: block for path, block in {**self.records, **records}.items() if block is not None}
        since, blocks = self.rev, [block for block in records.values() if block is not None]
        ops = [_op(path, before.get(path), block) for path, block in records.items()]
        nodes, signed = self._next()
        return {
            "repo": self.did,
            "commit": Link(cid_of(signed)),
            "rev": self.rev,
            "since": since,
            "prevData": Link(was),
            "blocks": car(cid_of(signed), [signed, *nodes, *blocks]),
            "ops": ops,
            "tooBig": False,
            "rebase": False,
            "blobs": [],
        }

    def sync(self) -> Body:
        """The body of a #sync after a commit that nobody was told of."""
        _, signed = self._next()
        return {"did": self.did, "rev": self.rev, "blocks": car(cid_of(signed), [signed])}

    def _next(self) -> tuple[list[bytes], bytes]:
        """The nodes of the tree as it is now, and a commit of it."""
        self.commits += 1
        self.rev = tid_at(FIRST_MICROSECONDS + self.commits * 1_000_000)
        data, nodes = tree({path: cid_of(block) for path, block in self.records.items()})
        return [*nodes.values()], commit(data, self.signer, did=self.did, rev=self.rev)


def _op(path: str, before: bytes | None, block: bytes | None) -> Body:
    op: Body = {"path": path, "cid": None if block is None else Link(cid_of(block))}
    if before is None:
        return op | {"action": "create"}
    return op | {"action": "delete" if block is None else "update", "prev": Link(before)}
