-- +goose Up

-- An issuing authority that an operator has put out of use: another signs in its
-- place until it is started again. What it signed stays good, and its lists go on.
ALTER TABLE authority ADD COLUMN stopped_at BIGINT;
ALTER TABLE authority ADD COLUMN stopped_by TEXT;
ALTER TABLE authority ADD COLUMN stopped_why TEXT;

-- Of each region one signs, and of no region one.
CREATE UNIQUE INDEX authority_of_region ON authority (region) WHERE kind = 'issuing' AND state = 'active';

UPDATE store_meta SET schema_version = 21;
