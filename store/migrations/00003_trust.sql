-- +goose Up

-- A change of trust: from one authority to another. How far it has come is
-- not here: it follows from the authorities' states, the bundles, the
-- adoptions and the certificates. ended_at is set with its last act.
CREATE TABLE trust_change (
    id          TEXT   PRIMARY KEY,
    kind        TEXT   NOT NULL CHECK (kind IN ('root', 'issuing')),
    old_root    TEXT   NOT NULL REFERENCES authority (id),
    new_root    TEXT   NOT NULL REFERENCES authority (id),
    old_issuing TEXT   NOT NULL REFERENCES authority (id),
    new_issuing TEXT   NOT NULL REFERENCES authority (id),
    bridge      TEXT   REFERENCES authority (id),
    carry       BOOLEAN NOT NULL,
    close       BOOLEAN NOT NULL,
    pace        BIGINT NOT NULL,
    reason      TEXT   NOT NULL,
    begun_by    TEXT   NOT NULL,
    begun_at    BIGINT NOT NULL,
    ended_at    BIGINT
);
CREATE INDEX trust_change_open ON trust_change (begun_at) WHERE ended_at IS NULL;

-- What operators decided on a change, dated: facts that it is read against.
CREATE TABLE trust_decision (
    id        TEXT   PRIMARY KEY,
    change_id TEXT   NOT NULL REFERENCES trust_change (id),
    kind      TEXT   NOT NULL CHECK (kind IN ('advance', 'pause', 'resume', 'back', 'force')),
    phase     TEXT   NOT NULL,
    reason    TEXT   NOT NULL,
    by_whom   TEXT   NOT NULL,
    at        BIGINT NOT NULL
);
CREATE INDEX trust_decision_change ON trust_decision (change_id, at);

-- By which bundle an agent believes servers, as it says itself.
-- Who has what, by authority; and the newest certificate of a server.
CREATE INDEX certificate_authority ON certificate (authority_id, not_after);
CREATE INDEX certificate_names ON certificate (names, issued_at) WHERE kind = 'server';

ALTER TABLE agent ADD COLUMN anchors TEXT NOT NULL DEFAULT '';
ALTER TABLE agent ADD COLUMN anchors_at BIGINT;

UPDATE store_meta SET schema_version = 3;
