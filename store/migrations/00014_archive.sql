-- +goose Up

-- Files that records of certificates have gone to. What a file is stands in the
-- audit entry; the columns are what finds it: the serials that it holds, 16 bytes
-- each, ascending.
CREATE TABLE archive (
    file            TEXT   PRIMARY KEY,
    entry_id        TEXT   NOT NULL REFERENCES audit_entry (id),
    bytes           BIGINT NOT NULL,
    count           BIGINT NOT NULL,
    first_serial    BYTEA  NOT NULL,
    last_serial     BYTEA  NOT NULL,
    serials         BYTEA  NOT NULL,
    first_not_after BIGINT NOT NULL,
    last_not_after  BIGINT NOT NULL,
    at              BIGINT NOT NULL
);
CREATE INDEX archive_serials ON archive (first_serial, last_serial);

-- Up to which generation certificates of a placement may lie in archives: a
-- number that has no record here was used all the same. Servers of the schema
-- before would give it to another certificate, so they must not open the store.
ALTER TABLE placement ADD COLUMN archived_through BIGINT NOT NULL DEFAULT 0;

UPDATE store_meta SET schema_version = 14, min_server_schema = 14;
