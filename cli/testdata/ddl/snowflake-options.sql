-- Made by: landfall ddl snowflake --layout by-type --bucket acme-lake --prefix copy/events/ --schema analytics.lake --added order --topic-arn arn:aws:sns:eu-west-1:111122223333:landfall-landed --storage-integration acme
--
-- The pipe needs the stage analytics.lake.landfall_lake and the file format
-- analytics.lake.landfall_parquet, which the script without --added creates.
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
-- loaded nothing, as in FROM @analytics.lake.landfall_lake/COLUMN/2026/10/, and with
-- LOAD_UNCERTAIN_FILES = TRUE. A pipe and COPY INTO do not know of each other: from a folder of
-- which the pipe has loaded files, COPY INTO loads them again. Without the option it skips files
-- that are older than 64 days, once the first rows of the table are as old.
--
-- Names are not quoted, so that they can be written in upper and lower case. Only reserved words
-- are, in upper case, as schema evolution adds them, and have to be written as here.
--
-- An event can land twice: deduplicate by event_id.

CREATE TABLE IF NOT EXISTS analytics.lake."ORDER" (
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

CREATE PIPE IF NOT EXISTS analytics.lake.landfall_order
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'arn:aws:sns:eu-west-1:111122223333:landfall-landed'
AS
COPY INTO analytics.lake."ORDER"
FROM @analytics.lake.landfall_lake/order/
FILE_FORMAT = (FORMAT_NAME = 'analytics.lake.landfall_parquet')
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE;
