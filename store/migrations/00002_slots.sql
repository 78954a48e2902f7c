-- +goose Up

-- What decisions ask for of a placement stands in columns, so that they need
-- not open every report. cluster is NULL until a server of this schema has
-- looked at what the documents say; '' is none. failed_at is the server's time
-- of the report that brought the failure which stands.
ALTER TABLE placement ADD COLUMN cluster TEXT;
ALTER TABLE placement ADD COLUMN asks_slot BIGINT NOT NULL DEFAULT 0;
ALTER TABLE placement ADD COLUMN asked_at BIGINT;
ALTER TABLE placement ADD COLUMN failed_at BIGINT;
ALTER TABLE placement ADD COLUMN renew_from BIGINT;
CREATE INDEX placement_cluster ON placement (cluster) WHERE cluster <> '';
CREATE INDEX placement_asks ON placement (cluster) WHERE asks_slot > 0;
CREATE INDEX placement_failed ON placement (intent, failed_at) WHERE failed_at IS NOT NULL;

-- A slot that was withdrawn is not shown to its agent any more. It is free only
-- when the agent has said that it knows.
ALTER TABLE slot ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE slot ADD COLUMN withdrawn_at BIGINT;
CREATE INDEX slot_ended ON slot (granted_at) WHERE state IN ('ended', 'lapsed');
CREATE INDEX slot_agent ON slot (agent_id) WHERE state IN ('granted', 'begun');

-- The row of a cluster is changed by each grant in it, before the grant looks
-- who is away: so of two at once the second sees the first.
CREATE TABLE cluster (
    name   TEXT   PRIMARY KEY,
    grants BIGINT NOT NULL
);

UPDATE store_meta SET schema_version = 2;
