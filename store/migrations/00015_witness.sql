-- +goose Up

-- What witnesses outside have of the audit log: size is that of the newest
-- checkpoint that each cosigned. Another key is another witness. The error
-- columns say of the tries since it cosigned last; an alarm stays.
CREATE TABLE log_witness (
    name          TEXT   PRIMARY KEY,
    vkey          TEXT   NOT NULL,
    url           TEXT   NOT NULL,
    size          BIGINT NOT NULL,
    cosigned_at   BIGINT,
    tries         BIGINT NOT NULL,
    failing_since BIGINT,
    last_error    TEXT   NOT NULL,
    alarm_at      BIGINT,
    alarm         TEXT   NOT NULL
);

-- Their lines below checkpoints; at is the time in the line, by the witness's
-- clock.
CREATE TABLE cosignature (
    size BIGINT NOT NULL REFERENCES checkpoint (size),
    vkey TEXT   NOT NULL,
    line TEXT   NOT NULL,
    at   BIGINT NOT NULL,
    PRIMARY KEY (size, vkey)
);

-- The size of the newest checkpoint that had the cosignatures required.
ALTER TABLE store_meta ADD COLUMN published_size BIGINT NOT NULL DEFAULT 0;

UPDATE store_meta SET schema_version = 15;
