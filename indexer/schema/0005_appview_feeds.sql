-- What happens to posts, the counts of it, and the feeds made of both.

CREATE TABLE "like" (
    uri           varchar PRIMARY KEY,
    cid           varchar NOT NULL,
    creator       varchar NOT NULL,
    subject       varchar NOT NULL,
    "subjectCid"  varchar NOT NULL,
    "createdAt"   varchar NOT NULL,
    "indexedAt"   varchar NOT NULL,
    "sortAt"      varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    via           varchar,
    "viaCid"      varchar,
    CONSTRAINT like_unique_subject UNIQUE (subject, creator)
);
CREATE INDEX like_creator_cursor_idx ON "like" (creator, "sortAt", cid);

CREATE TABLE repost (
    uri           varchar PRIMARY KEY,
    cid           varchar NOT NULL,
    creator       varchar NOT NULL,
    subject       varchar NOT NULL,
    "subjectCid"  varchar NOT NULL,
    "createdAt"   varchar NOT NULL,
    "indexedAt"   varchar NOT NULL,
    "sortAt"      varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    via           varchar,
    "viaCid"      varchar,
    CONSTRAINT repost_unique_subject UNIQUE (creator, subject)
);
CREATE INDEX repost_subject_idx ON repost (subject);
CREATE INDEX repost_order_by_idx ON repost ("sortAt", cid);

CREATE TABLE quote (
    uri           varchar PRIMARY KEY,
    cid           varchar NOT NULL,
    subject       varchar NOT NULL,
    "subjectCid"  varchar NOT NULL,
    "createdAt"   varchar NOT NULL,
    "indexedAt"   varchar NOT NULL,
    "sortAt"      varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED
);
CREATE INDEX quote_subject_cursor_idx ON quote (subject, "sortAt", cid);

-- Keyed by whatever can be liked, not only by posts.
CREATE TABLE post_agg (
    uri              varchar PRIMARY KEY,
    "likeCount"      bigint NOT NULL DEFAULT 0,
    "replyCount"     bigint NOT NULL DEFAULT 0,
    "repostCount"    bigint NOT NULL DEFAULT 0,
    "quoteCount"     bigint NOT NULL DEFAULT 0,
    "bookmarkCount"  bigint NOT NULL DEFAULT 0
);

-- Posts and reposts in one order; "sortAt" is filled by the writer here.
CREATE TABLE feed_item (
    uri              varchar PRIMARY KEY,
    cid              varchar NOT NULL,
    type             varchar NOT NULL,
    "postUri"        varchar NOT NULL,
    "originatorDid"  varchar NOT NULL,
    "sortAt"         varchar NOT NULL
);
CREATE INDEX feed_item_originator_cursor_idx ON feed_item ("originatorDid", "sortAt", cid);
CREATE INDEX feed_item_cursor_idx ON feed_item ("sortAt", cid);
CREATE INDEX feed_item_post_uri_idx ON feed_item ("postUri");

CREATE TABLE feed_generator (
    uri                  varchar PRIMARY KEY,
    cid                  varchar NOT NULL,
    creator              varchar NOT NULL,
    "feedDid"            varchar NOT NULL,
    "displayName"        varchar,
    description          varchar,
    "descriptionFacets"  varchar,
    "avatarCid"          varchar,
    "createdAt"          varchar NOT NULL,
    "indexedAt"          varchar NOT NULL,
    "sortAt"             varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED
);
CREATE INDEX feed_generator_creator_index ON feed_generator (creator);
