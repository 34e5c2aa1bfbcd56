DROP TABLE part_use;
DROP TABLE part_chunk;
DROP TABLE part;
DROP TABLE change_segment;
DROP TABLE segment_use;
DROP TABLE segment;
