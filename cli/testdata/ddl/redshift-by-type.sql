-- Made by: landfall ddl redshift --layout by-type
--
-- Replace YOUR_LAKE_BUCKET by the bucket in the output LakeBucketName of the stack, or give
-- --bucket.
--
-- COPY loads Parquet by position, and refuses a file with another number of columns than the table.
-- The nine columns of a type never change, nor do the eight of unregistered: new fields are inside
-- the SUPER column, and a new event type is a new table, which landfall ddl redshift --layout
-- by-type --added COLUMN prints.
--
-- COPY loads a file again each time: load each day once, from its folder, or append JOB CREATE name
-- AUTO ON, with which Redshift loads new files by itself and remembers them. An event can land
-- twice, too: deduplicate by event_id.
--
-- The bucket has to be in the region of the warehouse.

CREATE TABLE IF NOT EXISTS "every_kind" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMPTZ NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "every_kind" SUPER
);

COPY "every_kind"
FROM 's3://YOUR_LAKE_BUCKET/events/every_kind/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;

CREATE TABLE IF NOT EXISTS "order" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMPTZ NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "order" SUPER
);

COPY "order"
FROM 's3://YOUR_LAKE_BUCKET/events/order/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;

CREATE TABLE IF NOT EXISTS "group" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMPTZ NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "group" SUPER
);

COPY "group"
FROM 's3://YOUR_LAKE_BUCKET/events/group/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;

CREATE TABLE IF NOT EXISTS "user" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMPTZ NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "user" SUPER
);

COPY "user"
FROM 's3://YOUR_LAKE_BUCKET/events/user/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;

CREATE TABLE IF NOT EXISTS "day" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMPTZ NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "day" SUPER
);

COPY "day"
FROM 's3://YOUR_LAKE_BUCKET/events/day/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;

CREATE TABLE IF NOT EXISTS "unregistered" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMPTZ NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000)
);

COPY "unregistered"
FROM 's3://YOUR_LAKE_BUCKET/events/unregistered/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;
