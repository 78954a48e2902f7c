-- +goose Up

-- Each index is a page more to write for a leaf. What was issued since a moment is
-- among what ends after it, and an agent's leaves are found by their placements.
DROP INDEX certificate_issued_at;
DROP INDEX certificate_agent;
CREATE INDEX certificate_agent ON certificate (agent_id, kind) WHERE agent_id IS NOT NULL AND placement_id IS NULL;

UPDATE store_meta SET schema_version = 23;
