-- +goose Up

-- When the newest commit was made that may concern any agent. Most commits do
-- not: that an agent is there, what it reports, its next certificate.
ALTER TABLE store_meta ADD COLUMN moved_at BIGINT NOT NULL DEFAULT 0;

UPDATE store_meta SET schema_version = 25;
