-- +goose Up

-- A standby is a change of roots that stands still once every party has adopted
-- the new one. Its old end is whichever root signs at the time; the columns say
-- so again when it becomes the change that it is kept for.
ALTER TABLE trust_change ADD COLUMN standby BOOLEAN NOT NULL DEFAULT FALSE;

-- How the renewals of a change go: a rollout's goal, as it was asked for.
ALTER TABLE trust_change ADD COLUMN reissue TEXT NOT NULL DEFAULT '';
CREATE INDEX rollout_name ON rollout (name, begun_at);

UPDATE store_meta SET schema_version = 5;
