-- Made by: landfall ddl snowflake --layout by-type
--
-- Replace YOUR_LAKE_BUCKET by the bucket in the output LakeBucketName of the stack, or give
-- --bucket.
--
-- Replace YOUR_LANDED_TOPIC_ARN by the topic in the output LandedTopicArn of the stack, or give
-- --topic-arn.
--
-- Replace YOUR_STORAGE_INTEGRATION by a storage integration that may read the bucket, or give
-- --storage-integration.
--
-- Event types are VARIANT: whatever fields a type gets later is in it, with no change here. Schema
-- evolution adds columns to a table, but no members to a structured OBJECT. Read a field as
-- order_created:order_id::VARCHAR. A field of type google.protobuf.Struct or Any is JSON text:
-- PARSE_JSON(order_created:details::VARCHAR):key::VARCHAR.
--
-- The columns of a type never change. A new event type is a new table, which landfall ddl snowflake
-- --layout by-type --added COLUMN prints; until then its files are not loaded.
--
-- sent_at is a point in time, which TIMESTAMP_NTZ would forget. The scanner reads it as
-- TIMESTAMP_LTZ, so it is shown in the time zone of the session that loads it:
-- CONVERT_TIMEZONE('UTC', sent_at) shows it in UTC.
--
-- A pipe subscribes to the topic when it is created. Before that, set the parameter
-- LandedSubscriberArn of the stack to the IAM user that SYSTEM$GET_AWS_SNS_IAM_POLICY returns. It
-- loads what is announced from then on, and ALTER PIPE REFRESH loads the files of the last seven
-- days. Never CREATE OR REPLACE a pipe: it forgets which files it has loaded.
--
-- Load older files with the pipe's COPY INTO by hand, from folders of days of which the pipe has
-- loaded nothing, as in FROM @landfall_lake/COLUMN/2026/10/, and with LOAD_UNCERTAIN_FILES = TRUE.
-- A pipe and COPY INTO do not know of each other: from a folder of which the pipe has loaded files,
-- COPY INTO loads them again. Without the option it skips files that are older than 64 days, once
-- the first rows of the table are as old.
--
-- Names are not quoted, so that they can be written in upper and lower case. Only reserved words
-- are, in upper case, as schema evolution adds them, and have to be written as here.
--
-- An event can land twice: deduplicate by event_id.

-- With the vectorized scanner binary columns stay binary; with logical types a time is a point in
-- time, instead of a number or a wall clock.
CREATE FILE FORMAT IF NOT EXISTS landfall_parquet
  TYPE = PARQUET
  USE_VECTORIZED_SCANNER = TRUE
  USE_LOGICAL_TYPE = TRUE
  BINARY_AS_TEXT = FALSE;

-- The storage integration has this URL among its STORAGE_ALLOWED_LOCATIONS.
CREATE STAGE IF NOT EXISTS landfall_lake
  URL = 's3://YOUR_LAKE_BUCKET/events/'
  STORAGE_INTEGRATION = YOUR_STORAGE_INTEGRATION;

CREATE TABLE IF NOT EXISTS every_kind (
  event_id VARCHAR NOT NULL,
  message_id VARCHAR NOT NULL,
  source VARCHAR,
  type VARCHAR NOT NULL,
  sent_at TIMESTAMP_TZ NOT NULL,
  payload_sha256 BINARY NOT NULL,
  attributes VARIANT,
  _raw BINARY,
  every_kind VARIANT
)
ENABLE_SCHEMA_EVOLUTION = TRUE;

CREATE TABLE IF NOT EXISTS "ORDER" (
  event_id VARCHAR NOT NULL,
  message_id VARCHAR NOT NULL,
  source VARCHAR,
  type VARCHAR NOT NULL,
  sent_at TIMESTAMP_TZ NOT NULL,
  payload_sha256 BINARY NOT NULL,
  attributes VARIANT,
  _raw BINARY,
  "ORDER" VARIANT
)
ENABLE_SCHEMA_EVOLUTION = TRUE;

CREATE TABLE IF NOT EXISTS "GROUP" (
  event_id VARCHAR NOT NULL,
  message_id VARCHAR NOT NULL,
  source VARCHAR,
  type VARCHAR NOT NULL,
  sent_at TIMESTAMP_TZ NOT NULL,
  payload_sha256 BINARY NOT NULL,
  attributes VARIANT,
  _raw BINARY,
  "GROUP" VARIANT
)
ENABLE_SCHEMA_EVOLUTION = TRUE;

CREATE TABLE IF NOT EXISTS user (
  event_id VARCHAR NOT NULL,
  message_id VARCHAR NOT NULL,
  source VARCHAR,
  type VARCHAR NOT NULL,
  sent_at TIMESTAMP_TZ NOT NULL,
  payload_sha256 BINARY NOT NULL,
  attributes VARIANT,
  _raw BINARY,
  user VARIANT
)
ENABLE_SCHEMA_EVOLUTION = TRUE;

CREATE TABLE IF NOT EXISTS day (
  event_id VARCHAR NOT NULL,
  message_id VARCHAR NOT NULL,
  source VARCHAR,
  type VARCHAR NOT NULL,
  sent_at TIMESTAMP_TZ NOT NULL,
  payload_sha256 BINARY NOT NULL,
  attributes VARIANT,
  _raw BINARY,
  day VARIANT
)
ENABLE_SCHEMA_EVOLUTION = TRUE;

CREATE TABLE IF NOT EXISTS unregistered (
  event_id VARCHAR NOT NULL,
  message_id VARCHAR NOT NULL,
  source VARCHAR,
  type VARCHAR NOT NULL,
  sent_at TIMESTAMP_TZ NOT NULL,
  payload_sha256 BINARY NOT NULL,
  attributes VARIANT,
  _raw BINARY
)
ENABLE_SCHEMA_EVOLUTION = TRUE;

CREATE PIPE IF NOT EXISTS landfall_every_kind
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'YOUR_LANDED_TOPIC_ARN'
AS
COPY INTO every_kind
FROM @landfall_lake/every_kind/
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet')
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE;

CREATE PIPE IF NOT EXISTS landfall_order
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'YOUR_LANDED_TOPIC_ARN'
AS
COPY INTO "ORDER"
FROM @landfall_lake/order/
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet')
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE;

CREATE PIPE IF NOT EXISTS landfall_group
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'YOUR_LANDED_TOPIC_ARN'
AS
COPY INTO "GROUP"
FROM @landfall_lake/group/
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet')
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE;

CREATE PIPE IF NOT EXISTS landfall_user
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'YOUR_LANDED_TOPIC_ARN'
AS
COPY INTO user
FROM @landfall_lake/user/
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet')
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE;

CREATE PIPE IF NOT EXISTS landfall_day
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'YOUR_LANDED_TOPIC_ARN'
AS
COPY INTO day
FROM @landfall_lake/day/
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet')
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE;

CREATE PIPE IF NOT EXISTS landfall_unregistered
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'YOUR_LANDED_TOPIC_ARN'
AS
COPY INTO unregistered
FROM @landfall_lake/unregistered/
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet')
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE;
