-- +goose Up

-- How far each sink outside has taken the audit log: taken is how many entries,
-- from the first on, and so the index of the next one. The error columns say of
-- the tries since it took something last.
CREATE TABLE audit_sink (
    name          TEXT   PRIMARY KEY,
    kind          TEXT   NOT NULL,
    address       TEXT   NOT NULL,
    taken         BIGINT NOT NULL,
    taken_at      BIGINT,
    tries         BIGINT NOT NULL,
    failing_since BIGINT,
    last_error    TEXT   NOT NULL
);

UPDATE store_meta SET schema_version = 9;
