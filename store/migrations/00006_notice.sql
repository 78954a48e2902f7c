-- +goose Up

-- What the owners of services are told of a change, until it was posted. The
-- row commits with what it tells of. body is posted byte for byte; next_at is
-- when it is posted next, NULL once it was taken or given up.
CREATE TABLE notice (
    id          TEXT   PRIMARY KEY,
    kind        TEXT   NOT NULL CHECK (kind IN ('rollout', 'trust')),
    change_id   TEXT   NOT NULL,
    change_name TEXT   NOT NULL,
    event       TEXT   NOT NULL,
    service     TEXT   NOT NULL,
    url         TEXT   NOT NULL,
    body        TEXT   NOT NULL,
    made_at     BIGINT NOT NULL,
    tries       BIGINT NOT NULL,
    next_at     BIGINT,
    sent_at     BIGINT,
    given_up_at BIGINT,
    last_error  TEXT   NOT NULL
);
CREATE INDEX notice_next ON notice (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX notice_change ON notice (change_id, service, made_at);
CREATE INDEX notice_made ON notice (made_at);

-- How long the owners have known before a change of trust does anything, and
-- whether each has to have been reached.
ALTER TABLE trust_change ADD COLUMN notice BIGINT NOT NULL DEFAULT 0;
ALTER TABLE trust_change ADD COLUMN told BOOLEAN NOT NULL DEFAULT FALSE;

-- Placements at which a rollout has another profile used than the intent names:
-- since when, since when it is to end with the next renewal, and until when. Of
-- a placement one stands at a time.
CREATE TABLE profile_override (
    rollout_id   TEXT   NOT NULL REFERENCES rollout (id),
    placement_id TEXT   NOT NULL REFERENCES placement (id),
    profile      TEXT   NOT NULL,
    since        BIGINT NOT NULL,
    taken_back   BIGINT,
    ended_at     BIGINT,
    ended_why    TEXT   NOT NULL,
    PRIMARY KEY (rollout_id, placement_id)
);
CREATE UNIQUE INDEX profile_override_stands ON profile_override (placement_id) WHERE ended_at IS NULL;

UPDATE store_meta SET schema_version = 6;
