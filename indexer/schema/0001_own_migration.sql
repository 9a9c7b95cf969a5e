-- What has been applied here. The checksum exposes a migration that was edited after it ran, which would
-- leave two databases of the same version with different tables.
CREATE TABLE {own}.migration (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
