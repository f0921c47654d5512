-- Made by: landfall ddl redshift --bucket acme-lake --schema lake --iam-role arn:aws:iam::111122223333:role/load
--
-- COPY loads Parquet by position, and refuses a file with another number of columns than the table.
-- A new event type is a new column at the end: landfall ddl redshift --added COLUMN prints its
-- ALTER TABLE. Run it before COPY sees files with that column, and load older files first, or list
-- their columns behind the table's name. With --layout by-type none of this is needed.
--
-- COPY loads a file again each time: load each day once, from its folder, or append JOB CREATE name
-- AUTO ON, with which Redshift loads new files by itself and remembers them. An event can land
-- twice, too: deduplicate by event_id.
--
-- The bucket has to be in the region of the warehouse.

CREATE TABLE IF NOT EXISTS "lake"."events" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMPTZ NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "every_kind" SUPER,
  "order" SUPER,
  "group" SUPER,
  "user" SUPER,
  "day" SUPER
);

-- The 2 is that of the year: it keeps away from the folders of the layout by-type, whose files have
-- other columns.
COPY "lake"."events"
FROM 's3://acme-lake/events/2'
IAM_ROLE 'arn:aws:iam::111122223333:role/load'
FORMAT AS PARQUET SERIALIZETOJSON;
