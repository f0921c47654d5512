-- Made by: landfall ddl duckdb
--
-- Replace YOUR_LAKE_BUCKET by the bucket in the output LakeBucketName of the stack, or give
-- --bucket.
--
-- DuckDB needs the extension httpfs to read from S3, and credentials, such as from INSTALL aws;
-- LOAD aws; CREATE SECRET (TYPE s3, PROVIDER credential_chain);
--
-- A view reads the files each time, and is created only when there is a file. DuckDB notes its
-- columns, so create it again after an event type got a field. A table keeps rows, as in INSERT
-- INTO events BY NAME SELECT * FROM files.events. An event can land twice: deduplicate by event_id.

CREATE SCHEMA IF NOT EXISTS "files";

CREATE TABLE IF NOT EXISTS "events" (
  "event_id" VARCHAR NOT NULL,
  "message_id" VARCHAR NOT NULL,
  "source" VARCHAR,
  "type" VARCHAR NOT NULL,
  "sent_at" TIMESTAMP WITH TIME ZONE NOT NULL,
  "payload_sha256" BLOB NOT NULL,
  "attributes" MAP(VARCHAR, VARCHAR),
  "_raw" BLOB,
  "every_kind" STRUCT(
    "a_bool" BOOLEAN,
    "an_int32" INTEGER,
    "an_int64" BIGINT,
    "a_uint32" BIGINT,
    "a_uint64" DECIMAL(20, 0),
    "a_float" FLOAT,
    "a_double" DOUBLE,
    "a_string" VARCHAR,
    "some_bytes" BLOB,
    "a_color" VARCHAR,
    "a_time" TIMESTAMP WITH TIME ZONE,
    "a_duration" BIGINT,
    "a_wrapped_string" VARCHAR,
    "some_json" VARCHAR,
    "inner" STRUCT(
      "number" INTEGER,
      "innermost" STRUCT(
        "blob" BLOB,
        "at" TIMESTAMP WITH TIME ZONE
      )[]
    ),
    "nothing" STRUCT(
      "_empty" BOOLEAN
    ),
    "choice_number" INTEGER,
    "choice_inner" STRUCT(
      "number" INTEGER,
      "innermost" STRUCT(
        "blob" BLOB,
        "at" TIMESTAMP WITH TIME ZONE
      )[]
    ),
    "strings" VARCHAR[],
    "decimals" DECIMAL(20, 0)[],
    "times" TIMESTAMP WITH TIME ZONE[],
    "inners" STRUCT(
      "number" INTEGER,
      "innermost" STRUCT(
        "blob" BLOB,
        "at" TIMESTAMP WITH TIME ZONE
      )[]
    )[],
    "strings_by_string" MAP(VARCHAR, VARCHAR),
    "inners_by_int32" MAP(INTEGER, STRUCT(
      "number" INTEGER,
      "innermost" STRUCT(
        "blob" BLOB,
        "at" TIMESTAMP WITH TIME ZONE
      )[]
    )),
    "bytes_by_uint64" MAP(DECIMAL(20, 0), BLOB),
    "times_by_bool" MAP(BOOLEAN, TIMESTAMP WITH TIME ZONE)
  ),
  "order" STRUCT(
    "order" VARCHAR,
    "timestamp" TIMESTAMP WITH TIME ZONE,
    "table" STRUCT(
      "select" VARCHAR,
      "from" DOUBLE,
      "type" VARCHAR
    )[],
    "unitPrice" VARCHAR
  ),
  "group" STRUCT(
    "_empty" BOOLEAN
  ),
  "user" STRUCT(
    "id" VARCHAR
  ),
  "day" STRUCT(
    "name" VARCHAR
  )
);

CREATE OR REPLACE VIEW "files"."events" AS
SELECT * FROM read_parquet('s3://YOUR_LAKE_BUCKET/events/*/*/*/*.parquet', union_by_name = true);
