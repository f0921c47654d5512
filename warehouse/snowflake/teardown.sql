-- Removes all of it. The files stay in S3. The database can be brought back by UNDROP DATABASE for a day; its pipes then have to be
-- made again, and know nothing of what they loaded.

USE ROLE ACCOUNTADMIN;

ALTER PIPE IF EXISTS landfall.raw.landfall_events SET PIPE_EXECUTION_PAUSED = TRUE;
ALTER PIPE IF EXISTS landfall.raw.landfall_collect SET PIPE_EXECUTION_PAUSED = TRUE;
ALTER PIPE IF EXISTS landfall.raw.landfall_cdc SET PIPE_EXECUTION_PAUSED = TRUE;
ALTER PIPE IF EXISTS landfall.raw.landfall_springboard SET PIPE_EXECUTION_PAUSED = TRUE;
DROP PIPE IF EXISTS landfall.raw.landfall_events;
DROP PIPE IF EXISTS landfall.raw.landfall_collect;
DROP PIPE IF EXISTS landfall.raw.landfall_cdc;
DROP PIPE IF EXISTS landfall.raw.landfall_springboard;

-- These fail where `dbt run-operation masking` has never run. Whoever was given the share loses it. A database with a policy on a tag
-- cannot be dropped.
DROP SHARE landfall;
USE SCHEMA landfall.shared;
ALTER TAG pii UNSET MASKING POLICY mask_text;
DROP DATABASE IF EXISTS landfall;
DROP USER IF EXISTS landfall_dbt;
DROP INTEGRATION IF EXISTS landfall_lake;
DROP WAREHOUSE IF EXISTS landfall_transform;
DROP WAREHOUSE IF EXISTS landfall_query;
DROP ROLE IF EXISTS landfall_pii;
DROP ROLE IF EXISTS landfall_ro;
DROP ROLE IF EXISTS landfall_rw;
DROP ROLE IF EXISTS landfall_raw_ro;
DROP ROLE IF EXISTS landfall_raw_rw;
