-- +goose Up

-- The audit log's hashes, as C2SP tlog-tiles lays them out: a row is what the
-- log has of a tile, up to 256 hashes of 32 bytes. A store that had them one
-- by one gets its tiles from its entries when it is opened. Servers of the
-- schema before would grow the log and not its tiles, so they must not open it.
CREATE TABLE audit_tile (
    level  BIGINT NOT NULL,
    idx    BIGINT NOT NULL,
    hashes BYTEA  NOT NULL,
    PRIMARY KEY (level, idx)
);
DROP TABLE audit_hash;

-- The fencing number of the lease that the log was last grown under.
ALTER TABLE store_meta ADD COLUMN log_fencing BIGINT NOT NULL DEFAULT 0;

UPDATE store_meta SET schema_version = 8, min_server_schema = 8;
