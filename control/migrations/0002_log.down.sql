ALTER TABLE environment DROP COLUMN log_begins;
