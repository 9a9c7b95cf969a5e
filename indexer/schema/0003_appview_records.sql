-- Every record of a known type, as the AppView serves it.

CREATE TABLE record (
    uri            varchar PRIMARY KEY,
    cid            varchar NOT NULL,
    did            varchar NOT NULL,
    json           text NOT NULL,
    "indexedAt"    varchar NOT NULL,
    "takedownRef"  varchar,
    tags           jsonb
);
CREATE INDEX record_did_idx ON record (did);

-- Records that lost to an earlier one about the same subject.
CREATE TABLE duplicate_record (
    uri            varchar PRIMARY KEY,
    cid            varchar NOT NULL,
    "duplicateOf"  varchar NOT NULL,
    "indexedAt"    varchar NOT NULL
);
CREATE INDEX duplicate_record_duplicate_of_idx ON duplicate_record ("duplicateOf");
