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
-- record that was deleted before. Replies and quotes from before that time are judged by what was there then, so
-- parent keeps what a deleted post replied to, since the time from which a deleted gate had held, and facts (JSON) the
-- thread of the post, the rules of the gate, and whom a follow or a list item tied since when; never what was written.
CREATE TABLE {own}.tombstone (
    uri     text COLLATE "C" PRIMARY KEY,
    did     text COLLATE "C" NOT NULL,
    rev     text COLLATE "C" NOT NULL,
    time    text NOT NULL,
    facts   text,
    parent  text,
    since   text
);
CREATE INDEX tombstone_did_idx ON {own}.tombstone (did);
CREATE INDEX tombstone_parent_idx ON {own}.tombstone (parent) WHERE parent IS NOT NULL;

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
