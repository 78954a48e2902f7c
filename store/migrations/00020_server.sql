-- +goose Up

-- The servers that share this store, each as it last said that it is there, and
-- at which of them an agent's newest stream is.
CREATE TABLE server (
    instance   TEXT   PRIMARY KEY,
    name       TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    version    TEXT   NOT NULL,
    schema     BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL
);
ALTER TABLE agent ADD COLUMN connected_to TEXT;
CREATE INDEX agent_connected ON agent (connected_to) WHERE connected_to IS NOT NULL;

UPDATE store_meta SET schema_version = 20;
