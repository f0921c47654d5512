-- What an account needs before the raw tables: warehouses, roles, the database, and a storage integration.
-- Run it as a user with ACCOUNTADMIN. README.md says what replaces the words in it, and what comes next.
-- It can be run again: what is there stays as it is.

USE ROLE USERADMIN;

-- RAW_RW owns the raw tables and their pipes. RAW_RO reads them.
CREATE ROLE IF NOT EXISTS landfall_raw_rw;
CREATE ROLE IF NOT EXISTS landfall_raw_ro;

-- RW is the role of dbt: it reads the raw tables and owns everything that is made of them. RO reads the views in SHARED, where personal
-- values are masked, and nothing else. PII reads the same views and sees the values.
CREATE ROLE IF NOT EXISTS landfall_rw;
CREATE ROLE IF NOT EXISTS landfall_ro;
CREATE ROLE IF NOT EXISTS landfall_pii;

USE ROLE SYSADMIN;

-- A minute without a query suspends them. The pipes have no warehouse.
CREATE WAREHOUSE IF NOT EXISTS landfall_transform WITH
  WAREHOUSE_SIZE = XSMALL
  AUTO_SUSPEND = 60
  AUTO_RESUME = TRUE
  INITIALLY_SUSPENDED = TRUE
  STATEMENT_TIMEOUT_IN_SECONDS = 7200;
CREATE WAREHOUSE IF NOT EXISTS landfall_query WITH
  WAREHOUSE_SIZE = XSMALL
  AUTO_SUSPEND = 60
  AUTO_RESUME = TRUE
  INITIALLY_SUSPENDED = TRUE
  STATEMENT_TIMEOUT_IN_SECONDS = 600;

CREATE DATABASE IF NOT EXISTS landfall;
CREATE SCHEMA IF NOT EXISTS landfall.raw;
CREATE SCHEMA IF NOT EXISTS landfall.shared;

USE ROLE SECURITYADMIN;

GRANT ROLE landfall_raw_ro TO ROLE landfall_raw_rw;
GRANT ROLE landfall_raw_ro TO ROLE landfall_rw;
GRANT ROLE landfall_ro TO ROLE landfall_pii;
-- PII is not granted to SYSADMIN: administrators of the database have no reason to see personal values in its views.
GRANT ROLE landfall_raw_rw TO ROLE SYSADMIN;
GRANT ROLE landfall_rw TO ROLE SYSADMIN;
GRANT ROLE landfall_ro TO ROLE SYSADMIN;

GRANT USAGE ON WAREHOUSE landfall_transform TO ROLE landfall_rw;
GRANT USAGE ON WAREHOUSE landfall_transform TO ROLE landfall_raw_rw;
GRANT USAGE ON WAREHOUSE landfall_query TO ROLE landfall_ro;

GRANT USAGE ON DATABASE landfall TO ROLE landfall_raw_ro;
GRANT USAGE ON DATABASE landfall TO ROLE landfall_ro;
-- RW gives the database to a share.
GRANT USAGE ON DATABASE landfall TO ROLE landfall_rw WITH GRANT OPTION;
GRANT CREATE SCHEMA ON DATABASE landfall TO ROLE landfall_rw;
GRANT OWNERSHIP ON SCHEMA landfall.raw TO ROLE landfall_raw_rw COPY CURRENT GRANTS;
GRANT OWNERSHIP ON SCHEMA landfall.shared TO ROLE landfall_rw COPY CURRENT GRANTS;

GRANT USAGE ON SCHEMA landfall.raw TO ROLE landfall_raw_ro;
GRANT SELECT ON ALL TABLES IN SCHEMA landfall.raw TO ROLE landfall_raw_ro;
GRANT SELECT ON FUTURE TABLES IN SCHEMA landfall.raw TO ROLE landfall_raw_ro;
GRANT USAGE ON SCHEMA landfall.shared TO ROLE landfall_ro;
GRANT SELECT ON ALL VIEWS IN SCHEMA landfall.shared TO ROLE landfall_ro;
GRANT SELECT ON FUTURE VIEWS IN SCHEMA landfall.shared TO ROLE landfall_ro;

USE ROLE ACCOUNTADMIN;

-- For what `dbt run-operation masking` prints: policies on a tag, and a share.
GRANT APPLY MASKING POLICY ON ACCOUNT TO ROLE landfall_rw;
GRANT CREATE SHARE ON ACCOUNT TO ROLE landfall_rw;

-- Never CREATE OR REPLACE it: the external id would be another one, and AWS would refuse Snowflake from then on.
CREATE STORAGE INTEGRATION IF NOT EXISTS landfall_lake
  TYPE = EXTERNAL_STAGE
  STORAGE_PROVIDER = 'S3'
  ENABLED = TRUE
  STORAGE_AWS_ROLE_ARN = 'YOUR_READER_ROLE_ARN'
  STORAGE_ALLOWED_LOCATIONS = (
    's3://YOUR_LAKE_BUCKET/events/',
    's3://YOUR_LAKE_BUCKET/events_backfill/',
    's3://YOUR_LAKE_BUCKET/collect/',
    's3://YOUR_LAKE_BUCKET/cdc/',
    's3://YOUR_LAKE_BUCKET/springboard/',
    's3://YOUR_LAKE_BUCKET/backfill/'
  );
GRANT USAGE ON INTEGRATION landfall_lake TO ROLE landfall_raw_rw;

-- STORAGE_AWS_IAM_USER_ARN and STORAGE_AWS_EXTERNAL_ID, which the role on AWS has to trust.
DESC INTEGRATION landfall_lake;

-- The principal in this policy, which the topic has to let subscribe.
SELECT SYSTEM$GET_AWS_SNS_IAM_POLICY('YOUR_LANDED_TOPIC_ARN');
