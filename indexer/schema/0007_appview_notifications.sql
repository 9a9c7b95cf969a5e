-- Nothing here is unique but the id: that a replay adds no second row is the writer's duty.
CREATE TABLE notification (
    id               bigserial PRIMARY KEY,
    did              varchar NOT NULL,
    "recordUri"      varchar NOT NULL,
    "recordCid"      varchar NOT NULL,
    author           varchar NOT NULL,
    reason           varchar NOT NULL,
    "reasonSubject"  varchar,
    "sortAt"         varchar NOT NULL
);
CREATE INDEX notification_did_sortat_idx ON notification (did, "sortAt");
CREATE INDEX notification_record_idx ON notification ("recordUri");
CREATE INDEX notification_author_idx ON notification (author);

-- What a user has seen; the AppView's own.
CREATE TABLE actor_state (
    did                       varchar PRIMARY KEY,
    "lastSeenNotifs"          varchar NOT NULL,
    "priorityNotifs"          boolean NOT NULL DEFAULT false,
    "lastSeenPriorityNotifs"  varchar
);
