-- Replies that a thread gate forbids, so that a follow or a membership that comes late finds those it lets in.
CREATE TABLE {own}.forbidden (
    uri  text COLLATE "C" PRIMARY KEY
);
INSERT INTO {own}.forbidden SELECT uri FROM post WHERE "violatesThreadGate";
