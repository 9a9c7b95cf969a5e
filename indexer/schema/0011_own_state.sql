-- What Sluice must remember so that the order of events does not matter. "C" wherever did, rev or uri are
-- compared: a rev sorts by its bytes, never by the rules of a language.

-- Everyone queues behind an ALTER TABLE that waits for a long read: rather give up and be run again.
SET LOCAL lock_timeout = '5s';

-- The version of the register that a record is; unknown (NULL) for rows that the AppView wrote itself.
ALTER TABLE record ADD COLUMN IF NOT EXISTS rev varchar COLLATE "C";

-- What is known of a repo beyond the AppView's tables. All its events at or below floor_rev are reflected;
-- account_time and identity_time are the times of its newest events of these kinds, which an older one cannot undo.
CREATE TABLE {own}.repo (
    did            text COLLATE "C" PRIMARY KEY,
    floor_rev      text COLLATE "C" NOT NULL DEFAULT '',
    account_time   text COLLATE "C" NOT NULL DEFAULT '',
    identity_time  text COLLATE "C" NOT NULL DEFAULT ''
);

-- A key that is known to be absent, or not indexable, at rev: without it a late create would bring back a
-- record that was deleted before.
CREATE TABLE {own}.tombstone (
    uri  text COLLATE "C" PRIMARY KEY,
    did  text COLLATE "C" NOT NULL,
    rev  text COLLATE "C" NOT NULL
);
CREATE INDEX tombstone_did_idx ON {own}.tombstone (did);

-- What went of the records that posts of others are judged by (posts, gates, follows, list items), in place of
-- tombstones: a version that stood from since until the next one came, or a deletion (says is NULL). A reply or quote
-- is judged by what stood when it was written, whatever came or went later, and in whatever order we hear of it. Kept of
-- a post is where it stood in its thread and whom it mentioned, of a gate its rules, of the others whom they tied:
-- never what somebody wrote. deleted: nothing came after that version.
CREATE TABLE {own}.life (
    uri      text COLLATE "C",
    rev      text COLLATE "C",
    since    varchar NOT NULL,
    until    varchar NOT NULL DEFAULT '',
    deleted  boolean NOT NULL DEFAULT false,
    parent   varchar,
    root     varchar,
    says     varchar,
    PRIMARY KEY (uri, rev)
);
CREATE INDEX life_parent_idx ON {own}.life (parent) WHERE parent IS NOT NULL;

-- Versions of posts whose place among others (flags, notifications) has still to be worked out.
CREATE TABLE {own}.unsettled (
    uri  text COLLATE "C" PRIMARY KEY
);

-- Which parts of a repo snapshot have been applied: only a whole one may delete what it lacks. The number of
-- records belongs to its identity, since a filtered snapshot of the same rev is another one; collections is that
-- filter, known once its end was seen.
CREATE TABLE {own}.snapshot (
    did          text COLLATE "C",
    rev          text COLLATE "C",
    records      integer,
    seen         int4multirange NOT NULL DEFAULT '{}',
    collections  text[],
    PRIMARY KEY (did, rev, records)
);

-- Handles that wait to be resolved: a question to foreign servers, so it is asked off the hot path.
CREATE TABLE {own}.handle_check (
    did       text COLLATE "C" PRIMARY KEY,
    time      text NOT NULL,
    due_at    timestamptz NOT NULL,
    attempts  integer NOT NULL DEFAULT 0
);
CREATE INDEX handle_check_due_at_idx ON {own}.handle_check (due_at);

-- Accounts that are said to be deleted: their PDS is asked before anything is removed.
CREATE TABLE {own}.deletion_check (
    did       text COLLATE "C" PRIMARY KEY,
    time      text NOT NULL,
    due_at    timestamptz NOT NULL,
    attempts  integer NOT NULL DEFAULT 0
);
CREATE INDEX deletion_check_due_at_idx ON {own}.deletion_check (due_at);

-- Entries that Postgres refused, with their bytes, to be looked at and replayed. An entry is buried once,
-- however often it is delivered.
CREATE TABLE {own}.dead_letter (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream      text NOT NULL,
    entry_id    text NOT NULL,
    did         text COLLATE "C",
    uri         text COLLATE "C",
    reason      text NOT NULL,
    sqlstate    text,
    payload     bytea NOT NULL,
    error       text NOT NULL DEFAULT '',
    first_seen  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letter_unique_entry UNIQUE (stream, entry_id)
);
