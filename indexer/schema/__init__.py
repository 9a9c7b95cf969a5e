"""The database as Sluice makes it (the numbered SQL files beside this one) and as it needs it (NEEDED)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Migration:
    """One SQL file, `NNNN_own_IDEA` or `NNNN_appview_IDEA`. `{own}` in it stands for Sluice's own schema.

    The search path is the AppView's schema: a bare name is a table of the AppView.
    """

    version: int
    name: str
    sql: str

    @property
    def is_own(self) -> bool:
        """Ours are applied to every database; the AppView's only where its own migrator has not been."""
        return self.name.split("_")[1] == "own"

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations in the order in which they are applied."""
    files = sorted(Path(__file__).parent.glob("*.sql"))
    return [Migration(int(file.name[:4]), file.stem, file.read_text("utf-8")) for file in files]


_VARCHAR = "character varying"
_GATE = "uri cid creator postUri createdAt indexedAt"
_IMAGE = "postUri position imageCid alt"
_EDGE = "uri cid creator subjectDid createdAt indexedAt sortAt"
_REACTION = "uri cid creator subject subjectCid createdAt indexedAt sortAt via viaCid"

# What the indexer reads and writes: table -> columns, `name:type` where it is not varchar. The AppView's other
# tables and columns are left out, so that a release which changes only those does not stop the indexer.
NEEDED: Mapping[str, str] = {
    "actor": "did handle indexedAt takedownRef upstreamStatus trustedVerifier:boolean",
    "actor_block": _EDGE,
    "actor_sync": "did commitCid repoRev",
    "duplicate_record": "uri cid duplicateOf indexedAt",
    "feed_generator": (
        "uri cid creator feedDid displayName description descriptionFacets avatarCid createdAt indexedAt sortAt"
    ),
    "feed_item": "uri cid type postUri originatorDid sortAt",
    "follow": _EDGE,
    "label": "src uri cid val neg:boolean cts exp",
    "labeler": "uri cid creator createdAt indexedAt sortAt",
    "like": _REACTION,
    "list": "uri cid creator name purpose description descriptionFacets avatarCid createdAt indexedAt sortAt",
    "list_block": "uri cid creator subjectUri createdAt indexedAt sortAt",
    "list_item": "uri cid creator subjectDid listUri createdAt indexedAt sortAt",
    "notification": "id:bigint did recordUri recordCid author reason reasonSubject sortAt",
    "op_thread_reply": "rootUri parentUri uri deletedAt",
    "post": (
        "uri cid creator text replyRoot replyRootCid replyParent replyParentCid createdAt indexedAt sortAt"
        " langs:jsonb tags:jsonb invalidReplyRoot:boolean violatesThreadGate:boolean"
        " violatesEmbeddingRules:boolean hasThreadGate:boolean hasPostGate:boolean"
    ),
    "post_agg": "uri likeCount:bigint replyCount:bigint repostCount:bigint quoteCount:bigint bookmarkCount:bigint",
    "post_embed_external": "postUri uri title description thumbCid",
    "post_embed_gallery_image": _IMAGE,
    "post_embed_image": _IMAGE,
    "post_embed_record": "postUri embedUri embedCid",
    "post_embed_video": "postUri videoCid alt",
    "post_gate": _GATE,
    "profile": (
        "uri cid creator displayName description avatarCid bannerCid indexedAt joinedViaStarterPackUri createdAt"
    ),
    "profile_agg": "did followersCount:bigint followsCount:bigint postsCount:bigint",
    "quote": "uri cid subject subjectCid createdAt indexedAt sortAt",
    "record": "uri cid did json:text indexedAt takedownRef tags:jsonb rev",
    "repost": _REACTION,
    "starter_pack": "uri cid creator name createdAt indexedAt sortAt",
    "thread_gate": _GATE,
    "thread_mute": "rootUri mutedByDid",
    "verification": "uri cid rkey creator subject handle displayName createdAt indexedAt sortedAt",
}

# What later AppViews have beyond that.
NEEDED_SINCE: Mapping[str, Mapping[str, str]] = {
    "0.0.280": {"reference_list_opt_out": "uri cid creator subjectUri createdAt indexedAt sortAt"},
}

# The same for Sluice's own schema.
NEEDED_OWN: Mapping[str, str] = {
    "repo": "did:text floor_rev:text account_time:text identity_time:text",
    "tombstone": "uri:text did:text rev:text",
    "life": "uri:text rev:text since until deleted:boolean parent root says",
    "unplaced": "uri:text root:text",
    "forbidden": "uri:text",
    "lost": "subject:text uri:text",
    "label_version": "src:text uri:text cid:text val:text cts:text seq:bigint",
    "snapshot": "did:text rev:text records:integer seen:int4multirange collections:text[]",
    "handle_check": "did:text time:text due_at:timestamp_with_time_zone attempts:integer",
    "deletion_check": "did:text time:text due_at:timestamp_with_time_zone attempts:integer",
    "resync": "did:text time:text due_at:timestamp_with_time_zone attempts:integer",
    "dead_letter": (
        "id:bigint stream:text entry_id:text did:text uri:text reason:text sqlstate:text payload:bytea"
        " error:text first_seen:timestamp_with_time_zone"
    ),
}


def column_types(columns: str) -> dict[str, str]:
    """A value of NEEDED as {column: type}, the type as format_type spells it (NEEDED has `_` for its blanks)."""
    pairs = (column.partition(":") for column in columns.split())
    return {name: kind.replace("_", " ") or _VARCHAR for name, _, kind in pairs}
