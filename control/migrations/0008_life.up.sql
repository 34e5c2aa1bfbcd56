ALTER TABLE project ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE project ADD COLUMN archived_ms BIGINT;
ALTER TABLE project ADD COLUMN changed_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE project ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
UPDATE project SET changed_ms = created_ms;
ALTER TABLE environment ADD COLUMN archived_ms BIGINT;
-- As the project's, so that who has locked this row knows both.
ALTER TABLE environment ADD COLUMN project_archived_ms BIGINT;
-- Of the environment, where a change made it something else.
ALTER TABLE change ADD COLUMN name_before TEXT;
ALTER TABLE change ADD COLUMN name_after TEXT;
