-- +goose Up

-- OCSP responses that are delivered for processes to staple. The newest of a
-- certificate is what is wanted; the one before stays to be fetched until it ends,
-- by who was told of it.
CREATE TABLE staple (
    digest      BYTEA   PRIMARY KEY,
    serial      BYTEA   NOT NULL REFERENCES certificate (serial),
    newest      BOOLEAN NOT NULL,
    this_update BIGINT  NOT NULL,
    next_update BIGINT  NOT NULL,
    refresh_at  BIGINT  NOT NULL,
    der         BYTEA   NOT NULL
);
CREATE UNIQUE INDEX staple_newest ON staple (serial) WHERE newest;
CREATE INDEX staple_next_update ON staple (next_update);

UPDATE store_meta SET schema_version = 12;
