-- Written once for SQLite and PostgreSQL: both take BIGINT, TEXT and BYTEA (to SQLite these are names for what a value brings along).
-- Times are milliseconds since 1970; JSON is text, compact.

CREATE TABLE project (
    id BIGINT PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

-- The partition key of all that follows: an environment can move to another database with its rows.
CREATE TABLE environment (
    id BIGINT PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES project (id),
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    -- Seed of the Ed25519 key that signs what hosts get.
    seed BYTEA NOT NULL,
    created_ms BIGINT NOT NULL,
    UNIQUE (project_id, key)
);

-- Never deleted, so a key is never used for something else.
CREATE TABLE flag (
    id BIGINT PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES project (id),
    key TEXT NOT NULL,
    type TEXT NOT NULL,
    variants TEXT NOT NULL,
    description TEXT NOT NULL,
    owner TEXT NOT NULL,
    tags TEXT NOT NULL,
    kind TEXT NOT NULL,
    expires_ms BIGINT,
    archived_ms BIGINT,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    version BIGINT NOT NULL,
    UNIQUE (project_id, key)
);

CREATE TABLE flag_config (
    environment_id BIGINT NOT NULL REFERENCES environment (id),
    flag_id BIGINT NOT NULL REFERENCES flag (id),
    -- As the API takes it.
    config TEXT NOT NULL,
    -- What hosts get: a flagd definition. Empty where the flag is archived.
    definition TEXT NOT NULL,
    -- Of the environment, when this was last changed.
    revision BIGINT NOT NULL,
    PRIMARY KEY (environment_id, flag_id)
);

-- Which flags are compiled into which.
CREATE TABLE prerequisite (
    environment_id BIGINT NOT NULL REFERENCES environment (id),
    flag_id BIGINT NOT NULL REFERENCES flag (id),
    needs_id BIGINT NOT NULL REFERENCES flag (id),
    PRIMARY KEY (environment_id, flag_id, needs_id)
);
CREATE INDEX prerequisite_of ON prerequisite (environment_id, needs_id);

-- Append-only: audit trail, stream and source of rollbacks.
CREATE TABLE change (
    environment_id BIGINT NOT NULL REFERENCES environment (id),
    revision BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    time_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    comment TEXT NOT NULL,
    -- What the stream carries, signed.
    text TEXT NOT NULL,
    PRIMARY KEY (environment_id, revision)
);

-- What a change did to a flag; null where there was none, or is none any more.
CREATE TABLE change_flag (
    environment_id BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    flag_key TEXT NOT NULL,
    before TEXT,
    after TEXT,
    PRIMARY KEY (environment_id, revision, flag_key),
    FOREIGN KEY (environment_id, revision) REFERENCES change (environment_id, revision)
);
CREATE INDEX change_of_flag ON change_flag (environment_id, flag_key, revision);

CREATE TABLE token (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    -- SHA-256 of the secret, which is 32 random bytes: nothing to guess, so nothing slower is needed.
    hash BYTEA NOT NULL,
    scope TEXT NOT NULL,
    project_id BIGINT REFERENCES project (id),
    environment_id BIGINT REFERENCES environment (id),
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    revoked_ms BIGINT,
    used_ms BIGINT
);

CREATE TABLE idempotency (
    token_id TEXT NOT NULL,
    key TEXT NOT NULL,
    -- SHA-256 of method, path, If-Match and body.
    request BYTEA NOT NULL,
    status BIGINT NOT NULL,
    etag TEXT NOT NULL,
    body TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (token_id, key)
);
CREATE INDEX idempotency_age ON idempotency (created_ms);

CREATE TABLE number (
    name TEXT PRIMARY KEY,
    next BIGINT NOT NULL
);
INSERT INTO number (name, next) VALUES ('id', 1);
