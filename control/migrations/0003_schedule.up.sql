-- Changes that are to happen at a time.
CREATE TABLE schedule (
    id BIGINT PRIMARY KEY,
    environment_id BIGINT NOT NULL REFERENCES environment (id),
    flag_id BIGINT NOT NULL REFERENCES flag (id),
    -- A JSON merge patch of the flag's configuration.
    patch TEXT NOT NULL,
    -- The revision of the configuration that it is for; null: of whatever is there by then.
    if_revision BIGINT,
    at_ms BIGINT NOT NULL,
    -- pending, done, failed or cancelled
    state TEXT NOT NULL,
    actor TEXT NOT NULL,
    comment TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    -- Of the environment, that it has led to.
    revision BIGINT,
    -- Why it failed: a problem document.
    problem TEXT
);
CREATE INDEX schedule_due ON schedule (state, at_ms);
CREATE INDEX schedule_of ON schedule (environment_id, id);
