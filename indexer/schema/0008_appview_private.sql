-- What never crosses the firehose: the AppView's calls, its bsync stream and its operators fill these.

CREATE TABLE mute (
    "subjectDid"      varchar NOT NULL,
    "mutedByDid"      varchar NOT NULL,
    "createdAt"       varchar NOT NULL,
    "onlyReposts"     boolean NOT NULL DEFAULT false,
    "onlyQuoteposts"  boolean NOT NULL DEFAULT false,
    PRIMARY KEY ("mutedByDid", "subjectDid")
);

CREATE TABLE list_mute (
    "listUri"     varchar NOT NULL,
    "mutedByDid"  varchar NOT NULL,
    "createdAt"   varchar NOT NULL,
    PRIMARY KEY ("mutedByDid", "listUri")
);

-- The one private table that the indexer reads: a muted thread notifies nobody.
CREATE TABLE thread_mute (
    "rootUri"     varchar NOT NULL,
    "mutedByDid"  varchar NOT NULL,
    "createdAt"   varchar NOT NULL,
    PRIMARY KEY ("rootUri", "mutedByDid")
);

CREATE TABLE private_data (
    "actorDid"   varchar NOT NULL,
    namespace    varchar NOT NULL,
    key          varchar NOT NULL,
    payload      text NOT NULL,
    "indexedAt"  varchar NOT NULL,
    "updatedAt"  varchar NOT NULL,
    PRIMARY KEY ("actorDid", namespace, key)
);

CREATE TABLE activity_subscription (
    creator       varchar NOT NULL,
    "subjectDid"  varchar NOT NULL,
    key           varchar NOT NULL,
    "indexedAt"   varchar NOT NULL,
    post          boolean NOT NULL,
    reply         boolean NOT NULL,
    PRIMARY KEY (creator, key),
    CONSTRAINT activity_subscription_unique_creator_subject_did UNIQUE (creator, "subjectDid")
);

CREATE TABLE bookmark (
    creator       varchar NOT NULL,
    key           varchar NOT NULL,
    "subjectUri"  varchar NOT NULL,
    "subjectCid"  varchar NOT NULL,
    "indexedAt"   varchar NOT NULL,
    PRIMARY KEY (creator, key),
    CONSTRAINT bookmark_unique_uri_creator UNIQUE ("subjectUri", creator)
);

CREATE TABLE draft (
    creator      varchar NOT NULL,
    key          varchar NOT NULL,
    "createdAt"  varchar NOT NULL,
    "updatedAt"  varchar NOT NULL,
    payload      text NOT NULL,
    PRIMARY KEY (creator, key)
);
CREATE INDEX draft_creator_updated_at_key_idx ON draft (creator, "updatedAt", key);

CREATE TABLE blob_takedown (
    did            varchar NOT NULL,
    cid            varchar NOT NULL,
    "takedownRef"  varchar NOT NULL,
    PRIMARY KEY (did, cid)
);

CREATE TABLE suggested_follow (
    did      varchar PRIMARY KEY,
    "order"  integer NOT NULL
);

CREATE TABLE suggested_feed (
    uri      varchar PRIMARY KEY,
    "order"  integer NOT NULL
);

CREATE TABLE tagged_suggestion (
    tag            varchar NOT NULL,
    subject        varchar NOT NULL,
    "subjectType"  varchar NOT NULL,
    PRIMARY KEY (tag, subject)
);
