-- Loads the files that were there before the pipes, and shows what was loaded. It can be run again: a pipe skips what it has loaded,
-- and so does COPY INTO, since files of the backfill are loaded in no other way.

USE ROLE landfall_raw_rw;
USE WAREHOUSE landfall_transform;
USE SCHEMA landfall.raw;

-- Files of the last seven days. For older ones, run the statement of the pipe by itself, with its INCLUDE_METADATA or METADATA$FILENAME: models
-- do not see rows without the name of their file.
ALTER PIPE landfall_events REFRESH;
ALTER PIPE landfall_collect REFRESH;
ALTER PIPE landfall_cdc REFRESH;
ALTER PIPE landfall_springboard REFRESH;

-- What `landfall backfill` has landed.
COPY INTO events
FROM @landfall_events_backfill/
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet')
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE
INCLUDE_METADATA = (_file = METADATA$FILENAME);

-- Events that some other program has exported as JSON.
COPY INTO events_backfill
FROM (
  SELECT
    $1:source::VARCHAR,
    $1:type::VARCHAR,
    $1:event_id::VARCHAR,
    $1:occurred_at::TIMESTAMP_TZ,
    PARSE_JSON($1:payload::VARCHAR),
    METADATA$FILENAME
  FROM @landfall_backfill/
)
FILE_FORMAT = (FORMAT_NAME = 'landfall_parquet');

-- Every pipe is RUNNING.
SELECT SYSTEM$PIPE_STATUS('landfall_events');
SELECT SYSTEM$PIPE_STATUS('landfall_collect');
SELECT SYSTEM$PIPE_STATUS('landfall_cdc');
SELECT SYSTEM$PIPE_STATUS('landfall_springboard');

-- Files of a day that were not loaded, and why. A file with one bad row is left out as a whole.
SELECT file_name, status, first_error_message
FROM TABLE(INFORMATION_SCHEMA.COPY_HISTORY(TABLE_NAME => 'events', START_TIME => DATEADD(DAY, -1, CURRENT_TIMESTAMP())))
WHERE status <> 'Loaded';
SELECT file_name, status, first_error_message
FROM TABLE(INFORMATION_SCHEMA.COPY_HISTORY(TABLE_NAME => 'collect', START_TIME => DATEADD(DAY, -1, CURRENT_TIMESTAMP())))
WHERE status <> 'Loaded';
SELECT file_name, status, first_error_message
FROM TABLE(INFORMATION_SCHEMA.COPY_HISTORY(TABLE_NAME => 'changes', START_TIME => DATEADD(DAY, -1, CURRENT_TIMESTAMP())))
WHERE status <> 'Loaded';
