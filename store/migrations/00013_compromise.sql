-- +goose Up

-- What an operator said was in wrong hands, and what was begun about it. How far
-- that has come follows from the revocation, the rollout and the change of trust;
-- when it was first seen to be contained, and recovered from, is dated once.
CREATE TABLE compromise (
    id            TEXT    PRIMARY KEY,
    kind          TEXT    NOT NULL CHECK (kind IN ('agent', 'service', 'authority', 'key')),
    name          TEXT    NOT NULL,
    labels        TEXT    NOT NULL,
    note          TEXT    NOT NULL,
    contain_first BOOLEAN NOT NULL,
    rehearsal     BOOLEAN NOT NULL,
    revocation_id TEXT    REFERENCES revocation (id),
    rollout_id    TEXT    REFERENCES rollout (id),
    begun_by      TEXT    NOT NULL,
    begun_at      BIGINT  NOT NULL,
    contained_at  BIGINT,
    recovered_at  BIGINT,
    ended_at      BIGINT
);
CREATE UNIQUE INDEX compromise_open ON compromise (kind, name, labels) WHERE ended_at IS NULL;
CREATE INDEX compromise_begun ON compromise (begun_at);

UPDATE store_meta SET schema_version = 13;
