-- Accounts: who exists, what is known about them, and who said what about them.
-- As in all AppView tables a time is ISO text, and sorts as text: "sortAt" is the earlier of two strings.

-- In public, where every AppView connection looks for it whatever schema it serves.
CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public;

CREATE TABLE actor (
    did                            varchar PRIMARY KEY,
    handle                         varchar CONSTRAINT actor_handle_key UNIQUE,
    "indexedAt"                    varchar NOT NULL,
    "takedownRef"                  varchar,
    "upstreamStatus"               varchar,
    "trustedVerifier"              boolean NOT NULL DEFAULT false,
    "ageAssuranceStatus"           text,
    "ageAssuranceLastInitiatedAt"  varchar,
    "ageAssuranceAccess"           text,
    "ageAssuranceCountryCode"      text,
    "ageAssuranceRegionCode"       text
);
CREATE INDEX actor_handle_tgrm_idx ON actor USING gist (handle gist_trgm_ops);

CREATE TABLE actor_sync (
    did          varchar PRIMARY KEY,
    "commitCid"  varchar NOT NULL,
    "repoRev"    varchar
);

CREATE TABLE profile (
    uri                        varchar PRIMARY KEY,
    cid                        varchar NOT NULL,
    creator                    varchar NOT NULL,
    "displayName"              varchar,
    description                varchar,
    "avatarCid"                varchar,
    "bannerCid"                varchar,
    "indexedAt"                varchar NOT NULL,
    "joinedViaStarterPackUri"  varchar,
    "createdAt"                varchar NOT NULL,
    "pinnedPost"               varchar,
    "pinnedPostCid"            varchar
);
CREATE INDEX profile_creator_idx ON profile (creator);
CREATE INDEX profile_display_name_tgrm_idx ON profile USING gist ("displayName" gist_trgm_ops);
CREATE INDEX profile_starter_pack_joined_idx ON profile ("joinedViaStarterPackUri", "createdAt");

CREATE TABLE profile_agg (
    did               varchar PRIMARY KEY,
    "followersCount"  bigint NOT NULL DEFAULT 0,
    "followsCount"    bigint NOT NULL DEFAULT 0,
    "postsCount"      bigint NOT NULL DEFAULT 0
);

CREATE TABLE verification (
    uri            varchar PRIMARY KEY,
    cid            varchar NOT NULL,
    rkey           varchar NOT NULL,
    creator        varchar NOT NULL,
    subject        varchar NOT NULL,
    handle         varchar NOT NULL,
    "displayName"  varchar NOT NULL,
    "createdAt"    varchar NOT NULL,
    "indexedAt"    varchar NOT NULL,
    "sortedAt"     varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED,
    CONSTRAINT verification_unique_subject_creator UNIQUE (subject, creator)
);

CREATE TABLE labeler (
    uri          varchar PRIMARY KEY,
    cid          varchar NOT NULL,
    creator      varchar NOT NULL,
    "createdAt"  varchar NOT NULL,
    "indexedAt"  varchar NOT NULL,
    "sortAt"     varchar NOT NULL GENERATED ALWAYS AS (LEAST("createdAt", "indexedAt")) STORED
);
CREATE INDEX labeler_order_by_idx ON labeler ("sortAt", cid);

CREATE TABLE label (
    src  varchar NOT NULL,
    uri  varchar NOT NULL,
    cid  varchar NOT NULL,
    val  varchar NOT NULL,
    neg  boolean NOT NULL,
    cts  varchar NOT NULL,
    exp  varchar,
    PRIMARY KEY (src, uri, cid, val)
);
CREATE INDEX label_uri_index ON label (uri);
CREATE INDEX label_cts_idx ON label (cts);
