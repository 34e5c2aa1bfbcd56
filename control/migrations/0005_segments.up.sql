-- Never deleted, so a key is never used for something else.
CREATE TABLE segment (
    id BIGINT PRIMARY KEY,
    environment_id BIGINT NOT NULL REFERENCES environment (id),
    key TEXT NOT NULL,
    -- `rule` or `list`; stays as it is.
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    -- Of a rule: JSON.
    condition TEXT NOT NULL,
    -- Of a list: what hosts are told of its parts, JSON.
    list TEXT NOT NULL,
    archived_ms BIGINT,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    -- Of the environment, when this was last changed.
    revision BIGINT NOT NULL,
    UNIQUE (environment_id, key)
);

-- Which flags and segments (`user_kind`) refer to which segment, as their rules say: the segment may not be there.
CREATE TABLE segment_use (
    environment_id BIGINT NOT NULL REFERENCES environment (id),
    user_kind TEXT NOT NULL,
    user_key TEXT NOT NULL,
    segment_key TEXT NOT NULL,
    PRIMARY KEY (environment_id, user_kind, user_key, segment_key)
);
CREATE INDEX segment_used ON segment_use (environment_id, segment_key);

-- What a change did to a segment: of a list how many ids, and what names them, not the ids.
CREATE TABLE change_segment (
    environment_id BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    segment_key TEXT NOT NULL,
    before TEXT,
    after TEXT,
    PRIMARY KEY (environment_id, revision, segment_key),
    FOREIGN KEY (environment_id, revision) REFERENCES change (environment_id, revision)
);

-- Ids of lists: flags_sync::list says how. Written once, in several transactions, before anything refers to it.
CREATE TABLE part (
    id BIGINT PRIMARY KEY,
    -- Empty until all of it is here.
    sha256 TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE INDEX part_named ON part (sha256);

CREATE TABLE part_chunk (
    part_id BIGINT NOT NULL REFERENCES part (id),
    number BIGINT NOT NULL,
    -- One after the other a gzip file.
    bytes BYTEA NOT NULL,
    PRIMARY KEY (part_id, number)
);

CREATE TABLE part_use (
    segment_id BIGINT NOT NULL REFERENCES segment (id),
    part_id BIGINT NOT NULL REFERENCES part (id),
    environment_id BIGINT NOT NULL REFERENCES environment (id),
    -- When the list was made of others; hosts that are behind, and caches, ask for it for a while.
    retired_ms BIGINT,
    PRIMARY KEY (segment_id, part_id)
);
CREATE INDEX part_used ON part_use (part_id);
