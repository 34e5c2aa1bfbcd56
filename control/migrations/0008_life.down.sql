ALTER TABLE change DROP COLUMN name_after;
ALTER TABLE change DROP COLUMN name_before;
ALTER TABLE environment DROP COLUMN project_archived_ms;
ALTER TABLE environment DROP COLUMN archived_ms;
ALTER TABLE project DROP COLUMN version;
ALTER TABLE project DROP COLUMN changed_ms;
ALTER TABLE project DROP COLUMN archived_ms;
ALTER TABLE project DROP COLUMN description;
