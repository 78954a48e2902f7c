-- +goose Up

-- The newest CRL of an authority's shard; shard -1 is the authority as a whole.
-- number and this_update only grow. The list is head, the entries and tail: the
-- entries stand in parts of their own, so that a list that only ages is signed
-- without their being written again. basis is what a whole one was made of: the
-- sum of its shards' numbers.
CREATE TABLE crl (
    authority_id TEXT   NOT NULL REFERENCES authority (id),
    shard        BIGINT NOT NULL,
    number       BIGINT NOT NULL,
    basis        BIGINT NOT NULL,
    this_update  BIGINT NOT NULL,
    next_update  BIGINT NOT NULL,
    entries      BIGINT NOT NULL,
    digest       BYTEA  NOT NULL,
    head         BYTEA  NOT NULL,
    tail         BYTEA  NOT NULL,
    PRIMARY KEY (authority_id, shard)
);

-- ends has, for each entry and in their order, the end of the certificate: 4
-- bytes, minutes since 1970.
CREATE TABLE crl_entries (
    authority_id TEXT   NOT NULL REFERENCES authority (id),
    shard        BIGINT NOT NULL,
    part         BIGINT NOT NULL,
    ends         BYTEA  NOT NULL,
    entries      BYTEA  NOT NULL,
    PRIMARY KEY (authority_id, shard, part)
);

-- What was revoked, or was on hold and is no more, and stands so on no list yet.
-- It commits with the certificate's row.
CREATE TABLE crl_pending (
    authority_id TEXT    NOT NULL REFERENCES authority (id),
    shard        BIGINT  NOT NULL,
    serial       BYTEA   NOT NULL,
    lifted       BOOLEAN NOT NULL,
    PRIMARY KEY (authority_id, shard, serial)
);

-- A revocation that was asked for: of which certificates, why, and by whom. Those
-- that are in use are revoked once what takes their place was proven, or at
-- force_at, whichever is first. ended_at is when none was left to wait for.
CREATE TABLE revocation (
    id       TEXT   PRIMARY KEY,
    object   TEXT   NOT NULL,
    reason   TEXT   NOT NULL,
    note     TEXT   NOT NULL,
    begun_by TEXT   NOT NULL,
    begun_at BIGINT NOT NULL,
    force_at BIGINT,
    ended_at BIGINT
);
CREATE INDEX revocation_begun ON revocation (begun_at);
CREATE INDEX revocation_open ON revocation (begun_at) WHERE ended_at IS NULL;
CREATE INDEX revocation_ended ON revocation (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE revocation_part (
    revocation_id TEXT  NOT NULL REFERENCES revocation (id),
    serial        BYTEA NOT NULL,
    PRIMARY KEY (revocation_id, serial)
);
CREATE INDEX revocation_part_serial ON revocation_part (serial);

-- Certificates may be a responder's: the table is made anew, since a check can't
-- be widened in the SQL that all stores share.
CREATE TABLE certificate_wider (
    serial       BYTEA  PRIMARY KEY,
    kind         TEXT   NOT NULL CHECK (kind IN ('leaf', 'agent', 'server', 'operator', 'canary', 'authority', 'responder')),
    authority_id TEXT   NOT NULL REFERENCES authority (id),
    placement_id TEXT,
    generation   BIGINT,
    agent_id     TEXT,
    operator     TEXT   NOT NULL,
    intent       TEXT   NOT NULL,
    names        TEXT   NOT NULL,
    policy_input TEXT,
    rule         TEXT   NOT NULL,
    spki         BYTEA  NOT NULL,
    fingerprint  BYTEA  NOT NULL,
    crl_shard    BIGINT NOT NULL,
    not_before   BIGINT NOT NULL,
    not_after    BIGINT NOT NULL,
    issued_at    BIGINT NOT NULL,
    revoked_at   BIGINT,
    reason       TEXT   NOT NULL,
    der          BYTEA  NOT NULL,
    CHECK ((placement_id IS NULL) = (generation IS NULL))
);
INSERT INTO certificate_wider SELECT * FROM certificate;
DROP TABLE certificate;
ALTER TABLE certificate_wider RENAME TO certificate;
CREATE UNIQUE INDEX certificate_generation ON certificate (placement_id, generation) WHERE placement_id IS NOT NULL;
CREATE INDEX certificate_agent ON certificate (agent_id, kind) WHERE agent_id IS NOT NULL;
CREATE INDEX certificate_not_after ON certificate (not_after);
CREATE INDEX certificate_issued_at ON certificate (issued_at);
CREATE INDEX certificate_revoked ON certificate (authority_id, crl_shard) WHERE revoked_at IS NOT NULL;
CREATE INDEX certificate_authority ON certificate (authority_id, not_after);
CREATE INDEX certificate_names ON certificate (names, issued_at) WHERE kind = 'server';
CREATE INDEX certificate_spki ON certificate (spki);
CREATE INDEX certificate_fingerprint ON certificate (fingerprint);

-- What was revoked before lists were kept is put on them.
INSERT INTO crl_pending SELECT authority_id, crl_shard, serial, FALSE FROM certificate WHERE revoked_at IS NOT NULL;

UPDATE store_meta SET schema_version = 7;
