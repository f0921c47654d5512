-- The raw tables. Those of the schema raw_new have the columns of the files, which COPY loads, and are empty between two loads. Before
-- this, the first statement that `landfall ddl redshift --schema raw_new` prints makes raw_new.events, with the columns of your event
-- types. It can be run again: what is there stays as it is.

-- The key of the file is the first column, so that a new event type is the last one of both tables. For one, run what
-- `landfall ddl redshift --schema raw_new --added COLUMN` prints, and its ALTER TABLE for "raw".events as well.
CREATE TABLE IF NOT EXISTS "raw".events (
  _file VARCHAR(1024) NOT NULL,
  LIKE raw_new.events
);

CREATE TABLE IF NOT EXISTS raw_new.events_backfill (
  source VARCHAR(65535),
  type VARCHAR(65535),
  event_id VARCHAR(65535),
  occurred_at TIMESTAMP,
  payload VARCHAR(65535)
);
CREATE TABLE IF NOT EXISTS "raw".events_backfill (
  source VARCHAR(65535),
  type VARCHAR(65535) NOT NULL,
  event_id VARCHAR(65535),
  occurred_at TIMESTAMP NOT NULL,
  payload SUPER NOT NULL,
  _file VARCHAR(1024) NOT NULL
);

CREATE TABLE IF NOT EXISTS raw_new.collect (data SUPER);
CREATE TABLE IF NOT EXISTS "raw".collect (
  data SUPER NOT NULL,
  _file VARCHAR(1024) NOT NULL
);

-- One for each replicated table, with the columns of its files in their order: this is the example of dbt_project.yml.
CREATE TABLE IF NOT EXISTS raw_new.customers (
  op VARCHAR(1),
  committed_at VARCHAR(32),
  change_seq VARCHAR(50),
  customer_id BIGINT,
  bi_customer_id BIGINT,
  name VARCHAR(65535),
  email VARCHAR(65535),
  balance DECIMAL(18, 2),
  segment VARCHAR(65535)
);
CREATE TABLE IF NOT EXISTS "raw".changes (
  data SUPER NOT NULL,
  _row BIGINT NOT NULL,
  _file VARCHAR(1024) NOT NULL
);
