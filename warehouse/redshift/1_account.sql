-- Schemas and roles. Run it as a superuser in the database of the warehouse. It can be run a second time: a role that is there is
-- refused, and nothing else changes.

CREATE SCHEMA IF NOT EXISTS "raw";
CREATE SCHEMA IF NOT EXISTS raw_new;

-- RAW_RW loads the raw tables. RW is the role of dbt: it reads them and owns what is made of them. RO reads what the models hold, with
-- personal values masked by what `dbt run-operation masking` prints; PII sees the values.
CREATE ROLE landfall_raw_rw;
CREATE ROLE landfall_raw_ro;
CREATE ROLE landfall_rw;
CREATE ROLE landfall_ro;
CREATE ROLE landfall_pii;

GRANT ROLE landfall_raw_ro TO ROLE landfall_rw;
GRANT ROLE landfall_ro TO ROLE landfall_pii;

GRANT USAGE ON SCHEMA "raw" TO ROLE landfall_raw_rw;
GRANT USAGE ON SCHEMA raw_new TO ROLE landfall_raw_rw;
GRANT CREATE ON SCHEMA "raw" TO ROLE landfall_raw_rw;
GRANT CREATE ON SCHEMA raw_new TO ROLE landfall_raw_rw;
GRANT SELECT, INSERT, DELETE FOR TABLES IN SCHEMA "raw" TO ROLE landfall_raw_rw;
GRANT SELECT, INSERT, DELETE FOR TABLES IN SCHEMA raw_new TO ROLE landfall_raw_rw;
GRANT USAGE ON SCHEMA "raw" TO ROLE landfall_raw_ro;
GRANT SELECT FOR TABLES IN SCHEMA "raw" TO ROLE landfall_raw_ro;
GRANT CREATE ON DATABASE landfall TO ROLE landfall_rw;
