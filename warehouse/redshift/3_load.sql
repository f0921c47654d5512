-- Loads the files that a manifest lists, each kind in a transaction of its own. README.md says how a manifest is made. What was loaded
-- by a manifest of the same name is replaced by it, so a load that failed or is repeated leaves no row twice.
--
-- The rows of the last load are removed by DELETE, because TRUNCATE would commit the transaction. LOCK keeps two loads of a table apart.

-- Events. A message that landed twice is taken once, because MERGE refuses a row that matches two. YOUR_EVENT_COLUMNS are those of the COPY that `landfall ddl redshift --schema raw_new` prints.
BEGIN;
LOCK raw_new.events;
DELETE FROM raw_new.events;
COPY raw_new.events (YOUR_EVENT_COLUMNS)
FROM 's3://YOUR_LAKE_BUCKET/manifests/YOUR_EVENTS_MANIFEST'
IAM_ROLE 'YOUR_READER_ROLE_ARN'
FORMAT AS PARQUET SERIALIZETOJSON
MANIFEST;
CREATE TEMP TABLE new_events AS
SELECT CAST('manifests/YOUR_EVENTS_MANIFEST' AS VARCHAR(1024)) AS _file, files.* FROM raw_new.events AS files
QUALIFY ROW_NUMBER() OVER (PARTITION BY files.message_id ORDER BY files.sent_at) = 1;
MERGE INTO "raw".events
USING new_events
ON "raw".events._file = new_events._file AND "raw".events.message_id = new_events.message_id
REMOVE DUPLICATES;
DROP TABLE new_events;
DELETE FROM raw_new.events;
COMMIT;

-- Hits. Rows of a line have no key to merge by, so those of the manifest are replaced together.
BEGIN;
LOCK raw_new.collect;
DELETE FROM raw_new.collect;
COPY raw_new.collect
FROM 's3://YOUR_LAKE_BUCKET/manifests/YOUR_COLLECT_MANIFEST'
IAM_ROLE 'YOUR_READER_ROLE_ARN'
FORMAT AS JSON 'noshred'
GZIP
MANIFEST;
DELETE FROM "raw".collect WHERE _file = 'manifests/YOUR_COLLECT_MANIFEST';
INSERT INTO "raw".collect (data, _file)
SELECT files.data, 'manifests/YOUR_COLLECT_MANIFEST' FROM raw_new.collect AS files;
DELETE FROM raw_new.collect;
COMMIT;

-- The backfill.
BEGIN;
LOCK raw_new.events_backfill;
DELETE FROM raw_new.events_backfill;
COPY raw_new.events_backfill (source, type, event_id, occurred_at, payload)
FROM 's3://YOUR_LAKE_BUCKET/manifests/YOUR_BACKFILL_MANIFEST'
IAM_ROLE 'YOUR_READER_ROLE_ARN'
FORMAT AS PARQUET
MANIFEST;
DELETE FROM "raw".events_backfill WHERE _file = 'manifests/YOUR_BACKFILL_MANIFEST';
INSERT INTO "raw".events_backfill (source, type, event_id, occurred_at, payload, _file)
SELECT files.source, files.type, files.event_id, files.occurred_at, JSON_PARSE(files.payload), 'manifests/YOUR_BACKFILL_MANIFEST'
FROM raw_new.events_backfill AS files;
DELETE FROM raw_new.events_backfill;
COMMIT;

-- Changes of a replicated table, a file at a time, since the models know a table and a full load by the key of a file. COPY does not
-- keep the order of rows, so change_seq has to be in the files. COPY takes columns by their place: look at a file first, and give the table
-- its order. The members have names in lower case, since Redshift reads data."Op" as data.op.
BEGIN;
LOCK raw_new.customers;
DELETE FROM raw_new.customers;
COPY raw_new.customers (op, committed_at, change_seq, customer_id, bi_customer_id, name, email, balance, segment)
FROM 's3://YOUR_LAKE_BUCKET/YOUR_FILE_KEY'
IAM_ROLE 'YOUR_READER_ROLE_ARN'
FORMAT AS PARQUET
FILLRECORD;
DELETE FROM "raw".changes WHERE _file = 'YOUR_FILE_KEY';
INSERT INTO "raw".changes (data, _row, _file)
SELECT
  OBJECT(
    'op', files.op, 'committed_at', files.committed_at, 'change_seq', files.change_seq, 'customer_id', files.customer_id,
    'bi_customer_id', files.bi_customer_id, 'name', files.name, 'email', files.email, 'balance', CAST(files.balance AS VARCHAR(64)),
    'segment', files.segment
  ),
  ROW_NUMBER() OVER (ORDER BY files.change_seq),
  'YOUR_FILE_KEY'
FROM raw_new.customers AS files;
DELETE FROM raw_new.customers;
COMMIT;
