-- Who follows, blocks and lists whom.

CREATE TABLE follow (
    uri           varchar PRIMARY KEY,
    cid           varchar NOT NULL,
    creator       varchar NOT NULL,
    "subjectDid"  varchar NOT NULL,
    "createdAt"   varchar NOT NULL,
    "indexedAt"   varchar NOT NULL,
    "sortAt"      varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT follow_unique_subject UNIQUE (creator, "subjectDid")
);
CREATE INDEX follow_creator_cursor_idx ON follow (creator, "sortAt", cid);
CREATE INDEX follow_subject_cursor_idx ON follow ("subjectDid", "sortAt", cid);

CREATE TABLE actor_block (
    uri           varchar PRIMARY KEY,
    cid           varchar NOT NULL,
    creator       varchar NOT NULL,
    "subjectDid"  varchar NOT NULL,
    "createdAt"   varchar NOT NULL,
    "indexedAt"   varchar NOT NULL,
    "sortAt"      varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT actor_block_unique_subject UNIQUE (creator, "subjectDid")
);
CREATE INDEX actor_block_subjectdid_idx ON actor_block ("subjectDid");

CREATE TABLE list (
    uri                  varchar PRIMARY KEY,
    cid                  varchar NOT NULL,
    creator              varchar NOT NULL,
    name                 varchar NOT NULL,
    purpose              varchar NOT NULL,
    description          varchar,
    "descriptionFacets"  varchar,
    "avatarCid"          varchar,
    "createdAt"          varchar NOT NULL,
    "indexedAt"          varchar NOT NULL,
    "sortAt"             varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED
);
CREATE INDEX list_creator_idx ON list (creator);

CREATE TABLE list_item (
    uri           varchar PRIMARY KEY,
    cid           varchar NOT NULL,
    creator       varchar NOT NULL,
    "subjectDid"  varchar NOT NULL,
    "listUri"     varchar NOT NULL,
    "createdAt"   varchar NOT NULL,
    "indexedAt"   varchar NOT NULL,
    "sortAt"      varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT list_item_unique_subject_in_list UNIQUE ("listUri", "subjectDid")
);
CREATE INDEX list_item_creator_idx ON list_item (creator);
CREATE INDEX list_item_subject_idx ON list_item ("subjectDid");

CREATE TABLE list_block (
    uri           varchar PRIMARY KEY,
    cid           varchar NOT NULL,
    creator       varchar NOT NULL,
    "subjectUri"  varchar NOT NULL,
    "createdAt"   varchar NOT NULL,
    "indexedAt"   varchar NOT NULL,
    "sortAt"      varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT list_block_unique_subject UNIQUE (creator, "subjectUri")
);

CREATE TABLE starter_pack (
    uri          varchar PRIMARY KEY,
    cid          varchar NOT NULL,
    creator      varchar NOT NULL,
    "createdAt"  varchar NOT NULL,
    "indexedAt"  varchar NOT NULL,
    "sortAt"     varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    name         varchar
);
CREATE INDEX starter_pack_creator_order_by_idx ON starter_pack (creator, "sortAt", cid);
CREATE INDEX starter_pack_name_tgrm_idx ON starter_pack USING gist (name gist_trgm_ops);
