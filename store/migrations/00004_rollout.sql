-- +goose Up

-- What was asked for, and dated facts of what came of it. Which wave is the
-- current one follows from them, and stands nowhere. ended_at is when it asked
-- for nothing more: all waves had passed, or an operator ended it.
CREATE TABLE rollout (
    id        TEXT   PRIMARY KEY,
    name      TEXT   NOT NULL,
    selection TEXT   NOT NULL,
    spec      TEXT   NOT NULL,
    waves     TEXT   NOT NULL,
    well      BIGINT NOT NULL,
    undoes    TEXT   NOT NULL,
    reason    TEXT   NOT NULL,
    begun_by  TEXT   NOT NULL,
    begun_at  BIGINT NOT NULL,
    ended_at  BIGINT
);
CREATE UNIQUE INDEX rollout_open ON rollout (name) WHERE ended_at IS NULL;
CREATE INDEX rollout_begun ON rollout (begun_at);

-- Whom it is over, in the order of its waves: fixed when it begins.
CREATE TABLE rollout_part (
    rollout_id         TEXT   NOT NULL REFERENCES rollout (id),
    position           BIGINT NOT NULL,
    placement_id       TEXT   NOT NULL REFERENCES placement (id),
    wave               BIGINT NOT NULL,
    through_generation BIGINT NOT NULL,
    asked_at           BIGINT,
    settled_at         BIGINT,
    PRIMARY KEY (rollout_id, position)
);
CREATE UNIQUE INDEX rollout_part_placement ON rollout_part (rollout_id, placement_id);

CREATE TABLE rollout_decision (
    rollout_id TEXT   NOT NULL REFERENCES rollout (id),
    act        TEXT   NOT NULL CHECK (act IN ('pause', 'resume', 'abort', 'rollback')),
    reason     TEXT   NOT NULL,
    by_whom    TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, at)
);

CREATE TABLE rollout_answer (
    rollout_id TEXT    NOT NULL REFERENCES rollout (id),
    wave       BIGINT  NOT NULL,
    gate       TEXT    NOT NULL,
    passed     BOOLEAN NOT NULL,
    words      TEXT    NOT NULL,
    by_whom    TEXT    NOT NULL,
    at         BIGINT  NOT NULL,
    PRIMARY KEY (rollout_id, wave, gate)
);

-- One row. Each decision about rollouts, an operator's or the planner's, raises
-- the number; what was planned on an older one is void.
CREATE TABLE rollout_turn (
    id     BIGINT PRIMARY KEY CHECK (id = 1),
    number BIGINT NOT NULL
);
INSERT INTO rollout_turn VALUES (1, 0);

UPDATE store_meta SET schema_version = 4;
