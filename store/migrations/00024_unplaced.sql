-- +goose Up

-- A server asks at its start whether there is one, whatever the fleet's size.
CREATE INDEX placement_unplaced ON placement (id) WHERE cluster IS NULL;

UPDATE store_meta SET schema_version = 24;
