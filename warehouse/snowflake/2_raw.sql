-- The raw tables, and a pipe for each folder of the lake. The table `events` has the columns of your event types, so its statement,
-- its stage and the file format come from `landfall ddl snowflake`, which is run before this. README.md says how.
-- It can be run again: what is there stays as it is. Never CREATE OR REPLACE a pipe, which would forget what it has loaded, nor a table,
-- whose rows would be gone while its pipe believes that it has loaded them.

USE ROLE landfall_raw_rw;
USE SCHEMA landfall.raw;

CREATE FILE FORMAT IF NOT EXISTS landfall_json
  TYPE = JSON
  COMPRESSION = AUTO;

CREATE STAGE IF NOT EXISTS landfall_collect
  URL = 's3://YOUR_LAKE_BUCKET/collect/'
  STORAGE_INTEGRATION = landfall_lake;
CREATE STAGE IF NOT EXISTS landfall_cdc
  URL = 's3://YOUR_LAKE_BUCKET/cdc/'
  STORAGE_INTEGRATION = landfall_lake;
CREATE STAGE IF NOT EXISTS landfall_springboard
  URL = 's3://YOUR_LAKE_BUCKET/springboard/'
  STORAGE_INTEGRATION = landfall_lake;
CREATE STAGE IF NOT EXISTS landfall_events_backfill
  URL = 's3://YOUR_LAKE_BUCKET/events_backfill/'
  STORAGE_INTEGRATION = landfall_lake;
CREATE STAGE IF NOT EXISTS landfall_backfill
  URL = 's3://YOUR_LAKE_BUCKET/backfill/'
  STORAGE_INTEGRATION = landfall_lake;

-- The key of the file of a row, by which the models know what is new.
ALTER TABLE events ADD COLUMN IF NOT EXISTS _file VARCHAR;

CREATE TABLE IF NOT EXISTS events_backfill (
  source VARCHAR,
  type VARCHAR NOT NULL,
  event_id VARCHAR,
  occurred_at TIMESTAMP_TZ NOT NULL,
  payload VARIANT NOT NULL,
  _file VARCHAR NOT NULL
);
CREATE TABLE IF NOT EXISTS collect (
  data VARIANT NOT NULL,
  _file VARCHAR NOT NULL
);
-- In quotes, because CHANGES is a keyword of FROM, and in upper case, which is its name without quotes.
CREATE TABLE IF NOT EXISTS "CHANGES" (
  data VARIANT NOT NULL,
  _row INTEGER NOT NULL,
  _file VARCHAR NOT NULL
);

-- A pipe subscribes to the topic when it is created, so the topic has to let Snowflake do so before.
CREATE PIPE IF NOT EXISTS landfall_events
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'YOUR_LANDED_TOPIC_ARN'
AS
COPY INTO events
FROM @landfall_lake/
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet')
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE
INCLUDE_METADATA = (_file = METADATA$FILENAME);

-- The columns are those of the table in their order.
CREATE PIPE IF NOT EXISTS landfall_collect
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'YOUR_LANDED_TOPIC_ARN'
AS
COPY INTO collect
FROM (SELECT $1, METADATA$FILENAME FROM @landfall_collect/)
FILE_FORMAT = (FORMAT_NAME = 'landfall_json');
CREATE PIPE IF NOT EXISTS landfall_cdc
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'YOUR_LANDED_TOPIC_ARN'
AS
COPY INTO "CHANGES"
FROM (SELECT $1, METADATA$FILE_ROW_NUMBER, METADATA$FILENAME FROM @landfall_cdc/)
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet');
CREATE PIPE IF NOT EXISTS landfall_springboard
  AUTO_INGEST = TRUE
  AWS_SNS_TOPIC = 'YOUR_LANDED_TOPIC_ARN'
AS
COPY INTO "CHANGES"
FROM (SELECT $1, METADATA$FILE_ROW_NUMBER, METADATA$FILENAME FROM @landfall_springboard/)
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet');
