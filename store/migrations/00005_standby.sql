-- +goose Up

-- A standby is a change of roots that stands still once every party has adopted
-- the new one. Its old end is whichever root signs at the time; the columns say
-- so again when it becomes the change that it is kept for.
ALTER TABLE trust_change ADD COLUMN standby BOOLEAN NOT NULL DEFAULT FALSE;

UPDATE store_meta SET schema_version = 5;
