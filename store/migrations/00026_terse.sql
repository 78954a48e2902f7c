-- +goose Up

-- Entries that have no place in the log yet, from min_server_schema 26 on: an
-- entry is moved to audit_entry with its place.
CREATE TABLE audit_pending (
    id        TEXT  PRIMARY KEY,
    content   BYTEA NOT NULL,
    leaf_hash BYTEA NOT NULL
);

-- These referred to entries by a foreign key, which those that are pending can't
-- satisfy. SQLite drops no constraint, so both tables are made anew.
CREATE TABLE archive_moved (
    file            TEXT   PRIMARY KEY,
    entry_id        TEXT   NOT NULL,
    bytes           BIGINT NOT NULL,
    count           BIGINT NOT NULL,
    first_serial    BYTEA  NOT NULL,
    last_serial     BYTEA  NOT NULL,
    serials         BYTEA  NOT NULL,
    first_not_after BIGINT NOT NULL,
    last_not_after  BIGINT NOT NULL,
    at              BIGINT NOT NULL
);
INSERT INTO archive_moved (file, entry_id, bytes, count, first_serial, last_serial, serials, first_not_after, last_not_after, at)
    SELECT file, entry_id, bytes, count, first_serial, last_serial, serials, first_not_after, last_not_after, at FROM archive;
DROP TABLE archive;
ALTER TABLE archive_moved RENAME TO archive;
CREATE INDEX archive_serials ON archive (first_serial, last_serial);

CREATE TABLE rolled_back_moved (
    id        TEXT   PRIMARY KEY,
    found_at  BIGINT NOT NULL,
    witness   TEXT   NOT NULL,
    seen      BYTEA  NOT NULL,
    seen_size BIGINT NOT NULL,
    own_size  BIGINT NOT NULL,
    ended_at  BIGINT,
    epoch     BIGINT,
    entry_id  TEXT
);
INSERT INTO rolled_back_moved (id, found_at, witness, seen, seen_size, own_size, ended_at, epoch, entry_id)
    SELECT id, found_at, witness, seen, seen_size, own_size, ended_at, epoch, entry_id FROM rolled_back;
DROP TABLE rolled_back;
ALTER TABLE rolled_back_moved RENAME TO rolled_back;
CREATE UNIQUE INDEX rolled_back_open ON rolled_back ((ended_at IS NULL)) WHERE ended_at IS NULL;

-- From min_server_schema 26 on a certificate's DER, what the policy saw of it and
-- the rule that allowed it are packed into der, and entries that have their place
-- into content: see store/terse.go. A new store is so from the start. Of an older
-- one the servers of the schema before go on to read all: it is so once there are
-- none any more. What stood there stays as it is.
UPDATE store_meta SET schema_version = 26;
UPDATE store_meta SET min_server_schema = 26 WHERE created_at = 0 AND trust_domain = '';
