-- Objects that no running code touches. They exist because a later migration of the AppView may alter or drop them.

CREATE TABLE subscription (
    service  varchar NOT NULL,
    method   varchar NOT NULL,
    state    varchar NOT NULL,
    PRIMARY KEY (service, method)
);

CREATE TABLE did_cache (
    did          varchar PRIMARY KEY,
    doc          jsonb NOT NULL,
    "updatedAt"  bigint NOT NULL
);

CREATE TABLE notification_push_token (
    did       varchar NOT NULL,
    platform  varchar NOT NULL,
    token     varchar NOT NULL,
    "appId"   varchar NOT NULL,
    PRIMARY KEY (did, token)
);

CREATE TABLE view_param (
    name   varchar PRIMARY KEY,
    value  varchar
);
INSERT INTO view_param (name, value) VALUES
    ('whats_hot_like_threshold', '2'),
    ('whats_hot_interval', '1day');

-- Likes against age: a post of h hours scores 10^6 * likes / (h + 2)^1.8.
CREATE MATERIALIZED VIEW algo_whats_hot_view AS
SELECT
    post.uri,
    post.cid,
    round(
        1000000 * (
            post_agg."likeCount"
            / ((EXTRACT(epoch FROM age(now(), post."indexedAt"::timestamp)) / 3600 + 2) ^ 1.8)
        )
    ) AS score
FROM post
JOIN post_agg ON post_agg.uri = post.uri
WHERE post."indexedAt" > (
    SELECT to_char(now() - value::interval, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS val
    FROM view_param
    WHERE name = 'whats_hot_interval'
)
AND post."replyParent" IS NULL
AND post_agg."likeCount" > (
    SELECT value::integer AS val
    FROM view_param
    WHERE name = 'whats_hot_like_threshold'
);
CREATE UNIQUE INDEX algo_whats_hot_view_uri_idx ON algo_whats_hot_view (uri);
CREATE INDEX algo_whats_hot_view_cursor_idx ON algo_whats_hot_view (score, cid);

CREATE TABLE moderation_action (
    id                 serial PRIMARY KEY,
    action             varchar NOT NULL,
    "subjectType"      varchar NOT NULL,
    "subjectDid"       varchar NOT NULL,
    "subjectUri"       varchar,
    "subjectCid"       varchar,
    reason             text NOT NULL,
    "createdAt"        varchar NOT NULL,
    "createdBy"        varchar NOT NULL,
    "reversedAt"       varchar,
    "reversedBy"       varchar,
    "reversedReason"   text,
    "createLabelVals"  varchar,
    "negateLabelVals"  varchar,
    "durationInHours"  integer,
    "expiresAt"        varchar
);

CREATE TABLE moderation_action_subject_blob (
    "actionId"  integer NOT NULL REFERENCES moderation_action (id),
    cid         varchar NOT NULL,
    PRIMARY KEY ("actionId", cid)
);
CREATE INDEX moderation_action_subject_blob_cid_idx ON moderation_action_subject_blob (cid);

CREATE TABLE moderation_report (
    id               serial PRIMARY KEY,
    "subjectType"    varchar NOT NULL,
    "subjectDid"     varchar NOT NULL,
    "subjectUri"     varchar,
    "subjectCid"     varchar,
    "reasonType"     varchar NOT NULL,
    reason           text,
    "reportedByDid"  varchar NOT NULL,
    "createdAt"      varchar NOT NULL
);

CREATE TABLE moderation_report_resolution (
    "reportId"   integer NOT NULL REFERENCES moderation_report (id),
    "actionId"   integer NOT NULL REFERENCES moderation_action (id),
    "createdBy"  varchar NOT NULL,
    "createdAt"  varchar NOT NULL,
    PRIMARY KEY ("reportId", "actionId")
);
CREATE INDEX moderation_report_resolution_action_id_idx ON moderation_report_resolution ("actionId");

CREATE TABLE moderation_event (
    id                 serial PRIMARY KEY,
    action             varchar NOT NULL,
    "subjectType"      varchar NOT NULL,
    "subjectDid"       varchar NOT NULL,
    "subjectUri"       varchar,
    "subjectCid"       varchar,
    comment            text,
    meta               jsonb,
    "createdAt"        varchar NOT NULL,
    "createdBy"        varchar NOT NULL,
    "reversedAt"       varchar,
    "reversedBy"       varchar,
    "durationInHours"  integer,
    "expiresAt"        varchar,
    "reversedReason"   text,
    "createLabelVals"  varchar,
    "negateLabelVals"  varchar,
    "legacyRefId"      integer
);

CREATE TABLE moderation_subject_status (
    id                serial PRIMARY KEY,
    did               varchar NOT NULL,
    "recordPath"      varchar NOT NULL DEFAULT '',
    "blobCids"        jsonb,
    "recordCid"       varchar,
    "reviewState"     varchar NOT NULL,
    comment           varchar,
    "muteUntil"       varchar,
    "lastReviewedAt"  varchar,
    "lastReviewedBy"  varchar,
    "lastReportedAt"  varchar,
    takendown         boolean NOT NULL DEFAULT false,
    "suspendUntil"    varchar,
    "createdAt"       varchar NOT NULL,
    "updatedAt"       varchar NOT NULL,
    CONSTRAINT moderation_status_unique_idx UNIQUE (did, "recordPath")
);
CREATE INDEX moderation_subject_status_blob_cids_idx ON moderation_subject_status USING gin ("blobCids");
