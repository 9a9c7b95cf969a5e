-- Posts: the post, what it embeds, and who may answer or quote it.

CREATE TABLE post (
    uri                       varchar PRIMARY KEY,
    cid                       varchar NOT NULL,
    creator                   varchar NOT NULL,
    text                      varchar NOT NULL,
    "replyRoot"               varchar,
    "replyRootCid"            varchar,
    "replyParent"             varchar,
    "replyParentCid"          varchar,
    "createdAt"               varchar NOT NULL,
    "indexedAt"               varchar NOT NULL,
    "sortAt"                  varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    langs                     jsonb,
    "invalidReplyRoot"        boolean,
    "violatesThreadGate"      boolean,
    tags                      jsonb,
    "violatesEmbeddingRules"  boolean,
    "hasThreadGate"           boolean,
    "hasPostGate"             boolean
);
CREATE INDEX post_creator_cursor_idx ON post (creator, "sortAt", cid);
CREATE INDEX post_order_by_idx ON post ("sortAt", cid);
CREATE INDEX post_replyparent_idx ON post ("replyParent") INCLUDE (uri);

CREATE TABLE post_embed_image (
    "postUri"   varchar NOT NULL,
    "position"  varchar NOT NULL,
    "imageCid"  varchar NOT NULL,
    alt         varchar NOT NULL,
    PRIMARY KEY ("postUri", "position")
);

CREATE TABLE post_embed_gallery_image (
    "postUri"   varchar NOT NULL,
    "position"  varchar NOT NULL,
    "imageCid"  varchar NOT NULL,
    alt         varchar NOT NULL,
    PRIMARY KEY ("postUri", "position")
);

CREATE TABLE post_embed_external (
    "postUri"    varchar PRIMARY KEY,
    uri          varchar NOT NULL,
    title        varchar NOT NULL,
    description  varchar NOT NULL,
    "thumbCid"   varchar
);

CREATE TABLE post_embed_record (
    "postUri"   varchar NOT NULL,
    "embedUri"  varchar NOT NULL,
    "embedCid"  varchar NOT NULL,
    PRIMARY KEY ("postUri", "embedUri")
);

CREATE TABLE post_embed_video (
    "postUri"   varchar PRIMARY KEY,
    "videoCid"  varchar NOT NULL,
    alt         varchar
);

CREATE TABLE thread_gate (
    uri          varchar PRIMARY KEY,
    cid          varchar NOT NULL,
    creator      varchar NOT NULL,
    "postUri"    varchar NOT NULL CONSTRAINT "thread_gate_postUri_key" UNIQUE,
    "createdAt"  varchar NOT NULL,
    "indexedAt"  varchar NOT NULL
);

CREATE TABLE post_gate (
    uri          varchar PRIMARY KEY,
    cid          varchar NOT NULL,
    creator      varchar NOT NULL,
    "postUri"    varchar NOT NULL CONSTRAINT "post_gate_postUri_key" UNIQUE,
    "createdAt"  varchar NOT NULL,
    "indexedAt"  varchar NOT NULL
);

-- Replies of a thread's author in their own thread; a deleted one stays, marked.
CREATE TABLE op_thread_reply (
    "rootUri"    varchar NOT NULL,
    "parentUri"  varchar NOT NULL,
    uri          varchar NOT NULL,
    "deletedAt"  varchar,
    PRIMARY KEY ("rootUri", uri)
);
