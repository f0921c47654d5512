-- Made by: landfall ddl duckdb --added order
--
-- Replace YOUR_LAKE_BUCKET by the bucket in the output LakeBucketName of the stack, or give
-- --bucket.
--
-- DuckDB needs the extension httpfs to read from S3, and credentials, such as from INSTALL aws;
-- LOAD aws; CREATE SECRET (TYPE s3, PROVIDER credential_chain);
--
-- A view reads the files each time, and is created only when there is a file. DuckDB notes its
-- columns, so create it again after an event type got a field.
--
-- A table keeps rows, as in INSERT INTO events BY NAME SELECT * FROM landfall_files.events. After
-- an event type got a field, change its column or create the table again, and fill it again, before
-- you insert: the table does not change by itself, and INSERT drops what is not in it without an
-- error. The queries at the end show what differs. An event can land twice: deduplicate by
-- event_id.
--
-- DuckDB gives a database the name of its file, and refuses a schema of the same name as ambiguous,
-- as --schema lake in lake.duckdb: write --schema lake.main there, or call the file otherwise.

ALTER TABLE "events" ADD COLUMN IF NOT EXISTS "order" STRUCT(
  "order" VARCHAR,
  "timestamp" TIMESTAMP WITH TIME ZONE,
  "table" STRUCT(
    "select" VARCHAR,
    "from" DOUBLE,
    "type" VARCHAR
  )[],
  "unitPrice" VARCHAR
);

CREATE OR REPLACE VIEW "landfall_files"."events" AS
SELECT * FROM read_parquet('s3://YOUR_LAKE_BUCKET/events/*/*/*/*.parquet', union_by_name = true);
