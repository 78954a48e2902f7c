-- +goose Up

-- One row. last_commit never goes back; document_state counts the changes of
-- the documents; tree_size is that of the audit log.
CREATE TABLE store_meta (
    id                BIGINT PRIMARY KEY CHECK (id = 1),
    epoch             BIGINT NOT NULL,
    trust_domain      TEXT   NOT NULL,
    schema_version    BIGINT NOT NULL,
    min_server_schema BIGINT NOT NULL,
    last_commit       BIGINT NOT NULL,
    document_state    BIGINT NOT NULL,
    tree_size         BIGINT NOT NULL,
    created_at        BIGINT NOT NULL
);
INSERT INTO store_meta VALUES (1, 1, '', 1, 1, 0, 0, 0, 0);

CREATE TABLE authority (
    id          TEXT   PRIMARY KEY,
    name        TEXT   NOT NULL UNIQUE,
    kind        TEXT   NOT NULL CHECK (kind IN ('root', 'issuing')),
    state       TEXT   NOT NULL CHECK (state IN ('prepared', 'active', 'retired', 'withdrawn')),
    origin      TEXT   NOT NULL CHECK (origin IN ('here', 'offline', 'foreign')),
    region      TEXT   NOT NULL,
    zone        TEXT   NOT NULL,
    parent_id   TEXT   REFERENCES authority (id),
    cross_of    TEXT   REFERENCES authority (id),
    certificate BYTEA  NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE authority_key (
    authority_id TEXT  PRIMARY KEY REFERENCES authority (id),
    kek_id       TEXT  NOT NULL,
    sealed       BYTEA NOT NULL
);

-- Other keys of the control plane, sealed by the KEK: the audit log's.
CREATE TABLE secret (
    name   TEXT  PRIMARY KEY,
    kek_id TEXT  NOT NULL,
    sealed BYTEA NOT NULL
);

CREATE TABLE certificate (
    serial       BYTEA  PRIMARY KEY,
    kind         TEXT   NOT NULL CHECK (kind IN ('leaf', 'agent', 'server', 'operator', 'canary', 'authority')),
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
CREATE UNIQUE INDEX certificate_generation ON certificate (placement_id, generation) WHERE placement_id IS NOT NULL;
CREATE INDEX certificate_agent ON certificate (agent_id, kind) WHERE agent_id IS NOT NULL;
CREATE INDEX certificate_not_after ON certificate (not_after);
CREATE INDEX certificate_issued_at ON certificate (issued_at);
CREATE INDEX certificate_revoked ON certificate (authority_id, crl_shard) WHERE revoked_at IS NOT NULL;

-- The current bundle of a name is the one of the highest seq. Anchors belong to
-- the digest, which several names and seqs may share.
CREATE TABLE bundle_anchor (
    digest   BYTEA  NOT NULL,
    position BIGINT NOT NULL,
    der      BYTEA  NOT NULL,
    PRIMARY KEY (digest, position)
);
CREATE TABLE bundle (
    name       TEXT   NOT NULL,
    seq        BIGINT NOT NULL,
    digest     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (name, seq)
);
CREATE INDEX bundle_digest ON bundle (digest);

CREATE TABLE document (
    kind       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    revision   BIGINT NOT NULL,
    json       TEXT   NOT NULL,
    changed_at BIGINT NOT NULL,
    changed_by TEXT   NOT NULL,
    git_commit TEXT   NOT NULL,
    PRIMARY KEY (kind, name)
);
-- A revision without json is a removal.
CREATE TABLE document_revision (
    kind       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    revision   BIGINT NOT NULL,
    json       TEXT,
    changed_at BIGINT NOT NULL,
    changed_by TEXT   NOT NULL,
    git_commit TEXT   NOT NULL,
    PRIMARY KEY (kind, name, revision)
);

CREATE TABLE agent (
    id          TEXT   PRIMARY KEY,
    state       TEXT   NOT NULL CHECK (state IN ('active', 'retired')),
    labels      TEXT   NOT NULL,
    facts       TEXT   NOT NULL,
    region      TEXT   NOT NULL,
    zone        TEXT   NOT NULL,
    epoch       BIGINT NOT NULL,
    boot        BIGINT NOT NULL,
    token_id    TEXT   NOT NULL,
    enrolled_at BIGINT NOT NULL,
    seen_at     BIGINT
);

CREATE TABLE token (
    id           TEXT   PRIMARY KEY,
    secret_hash  BYTEA  NOT NULL,
    labels       TEXT   NOT NULL,
    region       TEXT   NOT NULL,
    zone         TEXT   NOT NULL,
    state        TEXT   NOT NULL CHECK (state IN ('open', 'used', 'expired', 'revoked')),
    rejoin_agent TEXT   NOT NULL,
    created_by   TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    used_at      BIGINT,
    agent_id     TEXT   NOT NULL,
    spki         BYTEA
);
CREATE INDEX token_expires_at ON token (expires_at);

CREATE TABLE target (
    agent_id TEXT NOT NULL REFERENCES agent (id),
    name     TEXT NOT NULL,
    kind     TEXT NOT NULL,
    cluster  TEXT NOT NULL,
    PRIMARY KEY (agent_id, name)
);
CREATE INDEX target_cluster ON target (cluster);

CREATE TABLE placement (
    id              TEXT    PRIMARY KEY,
    intent          TEXT    NOT NULL,
    agent_id        TEXT    NOT NULL REFERENCES agent (id),
    instance        TEXT    NOT NULL,
    target          TEXT    NOT NULL,
    orphan          BOOLEAN NOT NULL,
    renew_through   BIGINT  NOT NULL,
    new_key         BOOLEAN NOT NULL,
    attempt         BIGINT  NOT NULL,
    resumed_at      BIGINT,
    report          BYTEA,
    reported_at     BIGINT,
    generation      BIGINT  NOT NULL,
    last_generation BIGINT  NOT NULL,
    not_after       BIGINT,
    created_at      BIGINT  NOT NULL,
    UNIQUE (intent, agent_id, instance)
);
CREATE INDEX placement_agent ON placement (agent_id);

-- Leave to take one member of a cluster out of its steady state. Time alone
-- frees only what was never begun.
CREATE TABLE slot (
    id           TEXT   PRIMARY KEY,
    cluster      TEXT   NOT NULL,
    agent_id     TEXT   NOT NULL REFERENCES agent (id),
    target       TEXT   NOT NULL,
    placement_id TEXT   NOT NULL REFERENCES placement (id),
    state        TEXT   NOT NULL CHECK (state IN ('granted', 'begun', 'ended', 'lapsed')),
    granted_at   BIGINT NOT NULL,
    start_by     BIGINT NOT NULL,
    begun_at     BIGINT,
    ended_at     BIGINT,
    ended_by     TEXT   NOT NULL
);
CREATE INDEX slot_held ON slot (cluster) WHERE state IN ('granted', 'begun');
CREATE UNIQUE INDEX slot_placement ON slot (placement_id) WHERE state IN ('granted', 'begun');

CREATE TABLE adoption (
    placement_id  TEXT   NOT NULL REFERENCES placement (id),
    bundle_digest TEXT   NOT NULL,
    level         TEXT   NOT NULL,
    evidence      TEXT   NOT NULL,
    at            BIGINT NOT NULL,
    PRIMARY KEY (placement_id, bundle_digest)
);
CREATE INDEX adoption_bundle ON adoption (bundle_digest);

CREATE TABLE evidence_latest (
    placement_id TEXT   NOT NULL REFERENCES placement (id),
    observer     TEXT   NOT NULL,
    kind         TEXT   NOT NULL,
    digest       TEXT   NOT NULL,
    verdict      TEXT   NOT NULL,
    statement    BYTEA  NOT NULL,
    signature    BYTEA  NOT NULL,
    at           BIGINT NOT NULL,
    PRIMARY KEY (placement_id, observer, kind)
);
CREATE INDEX evidence_latest_digest ON evidence_latest (digest);
CREATE TABLE evidence (
    placement_id TEXT   NOT NULL REFERENCES placement (id),
    observer     TEXT   NOT NULL,
    kind         TEXT   NOT NULL,
    digest       TEXT   NOT NULL,
    verdict      TEXT   NOT NULL,
    statement    BYTEA  NOT NULL,
    signature    BYTEA  NOT NULL,
    at           BIGINT NOT NULL,
    PRIMARY KEY (placement_id, digest)
);
CREATE INDEX evidence_digest ON evidence (digest);
CREATE INDEX evidence_at ON evidence (at);

CREATE TABLE decision (
    id                 TEXT    PRIMARY KEY,
    kind               TEXT    NOT NULL,
    intent             TEXT    NOT NULL,
    placement_id       TEXT    NOT NULL,
    through_generation BIGINT  NOT NULL,
    new_key            BOOLEAN NOT NULL,
    reason             TEXT    NOT NULL,
    by_whom            TEXT    NOT NULL,
    at                 BIGINT  NOT NULL
);
CREATE INDEX decision_intent ON decision (intent, at);

CREATE TABLE change (
    id          TEXT   PRIMARY KEY,
    verb        TEXT   NOT NULL,
    object      TEXT   NOT NULL,
    detail      TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('proposed', 'approved', 'done', 'rejected')),
    proposed_by TEXT   NOT NULL,
    proposed_at BIGINT NOT NULL,
    decided_by  TEXT   NOT NULL,
    decided_at  BIGINT,
    done_at     BIGINT
);
CREATE INDEX change_open ON change (proposed_at) WHERE state IN ('proposed', 'approved');

CREATE TABLE lease (
    name    TEXT   PRIMARY KEY,
    holder  TEXT   NOT NULL,
    fencing BIGINT NOT NULL,
    ends_at BIGINT NOT NULL
);

-- idx is NULL while the entry is pending.
CREATE TABLE audit_entry (
    id        TEXT   PRIMARY KEY,
    idx       BIGINT,
    content   BYTEA  NOT NULL,
    leaf_hash BYTEA  NOT NULL
);
CREATE UNIQUE INDEX audit_entry_index ON audit_entry (idx) WHERE idx IS NOT NULL;
CREATE INDEX audit_entry_pending ON audit_entry (id) WHERE idx IS NULL;

CREATE TABLE audit_hash (
    idx  BIGINT PRIMARY KEY,
    hash BYTEA  NOT NULL
);

CREATE TABLE checkpoint (
    size BIGINT PRIMARY KEY,
    note BYTEA  NOT NULL,
    at   BIGINT NOT NULL
);
