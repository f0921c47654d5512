-- Removes what these scripts and dbt made, but for the masking policies, whose bodies have the secret: SELECT policy_name FROM
-- svv_masking_policy lists them, and DROP MASKING POLICY removes one. The files stay in S3. Nothing brings the tables back but a snapshot, or loading them again.

DROP SCHEMA IF EXISTS dq CASCADE;
DROP SCHEMA IF EXISTS stats CASCADE;
DROP SCHEMA IF EXISTS events_live CASCADE;
DROP SCHEMA IF EXISTS events CASCADE;
DROP SCHEMA IF EXISTS marts CASCADE;
DROP SCHEMA IF EXISTS cdc CASCADE;
DROP SCHEMA IF EXISTS staging CASCADE;
DROP SCHEMA IF EXISTS "raw" CASCADE;
DROP SCHEMA IF EXISTS raw_new CASCADE;
-- Refused while a user has the role: REVOKE ROLE … FROM … first.
DROP ROLE landfall_pii;
DROP ROLE landfall_ro;
DROP ROLE landfall_rw;
DROP ROLE landfall_raw_ro;
DROP ROLE landfall_raw_rw;
