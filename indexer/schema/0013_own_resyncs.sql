-- Accounts that came back, whose repos wait to be queued for a backfill.
CREATE TABLE {own}.resync (
    did       text COLLATE "C" PRIMARY KEY,
    time      text NOT NULL,
    due_at    timestamptz NOT NULL,
    attempts  integer NOT NULL DEFAULT 0
);
CREATE INDEX resync_due_at_idx ON {own}.resync (due_at);
