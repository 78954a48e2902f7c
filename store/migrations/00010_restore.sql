-- +goose Up

-- That the store was found to be behind what a witness of its audit log has
-- seen: it was put back from a copy. While a row stands open nothing changes
-- but what hosts report; a restore ends it, in the epoch that it begins.
CREATE TABLE rolled_back (
    id        TEXT   PRIMARY KEY,
    found_at  BIGINT NOT NULL,
    witness   TEXT   NOT NULL,
    seen      BYTEA  NOT NULL,
    seen_size BIGINT NOT NULL,
    own_size  BIGINT NOT NULL,
    ended_at  BIGINT,
    epoch     BIGINT,
    entry_id  TEXT   REFERENCES audit_entry (id)
);
CREATE UNIQUE INDEX rolled_back_open ON rolled_back ((ended_at IS NULL)) WHERE ended_at IS NULL;

-- What agents said that they hold, since then; the newest of each.
CREATE TABLE testimony (
    agent_id TEXT   PRIMARY KEY,
    at       BIGINT NOT NULL,
    content  BYTEA  NOT NULL
);

-- Windows in which agents whose identities have expired may renew them. agents
-- is a JSON list of ids, empty for all.
CREATE TABLE emergency_window (
    id        TEXT   PRIMARY KEY,
    agents    TEXT   NOT NULL,
    reason    TEXT   NOT NULL,
    opened_by TEXT   NOT NULL,
    opened_at BIGINT NOT NULL,
    ends_at   BIGINT NOT NULL,
    closed_at BIGINT,
    renewed   BIGINT NOT NULL
);
CREATE INDEX emergency_window_ends ON emergency_window (ends_at);

-- Which operators' certificates are for emergencies, and how often each was
-- used.
CREATE TABLE emergency_credential (
    serial       BYTEA  PRIMARY KEY,
    name         TEXT   NOT NULL,
    uses         BIGINT NOT NULL,
    used         BIGINT NOT NULL,
    last_used_at BIGINT,
    created_by   TEXT   NOT NULL
);

UPDATE store_meta SET schema_version = 10;
