-- Made by: landfall ddl redshift --layout by-type
--
-- Replace YOUR_LAKE_BUCKET by the bucket in the output LakeBucketName of the stack, or give
-- --bucket.
--
-- COPY loads Parquet by position, and refuses a file with another number of columns than its list.
-- The nine columns of a type never change, nor do the eight of unregistered: new fields are inside
-- the SUPER column, and a new event type is a new table, which landfall ddl redshift --layout
-- by-type --added COLUMN prints.
--
-- COPY loads a file again each time, and a day gets files for as long as its events are delivered
-- again, with event_time for WriterEventTimeMaxAgeDays. So after the first load, load what is new
-- by a manifest of files that are not loaded yet, such as those announced on the topic in the
-- output LandedTopicArn: FROM the manifest, and append MANIFEST. Each entry has url, mandatory and,
-- which Parquet needs, meta with the content_length of the file. Of types without event_time you
-- can load a day again instead: delete its rows by sent_at, and COPY its folder, in one
-- transaction. An event can land twice, too: deduplicate by event_id.
--
-- A COPY job, which loads new files by itself, does not take the default role: give --iam-role for
-- one.
--
-- A text above 65,535 bytes fails the COPY of all its files, since MAXERROR is not there for
-- Parquet. With the parameter enable_large_strings_opt_in = Yes, for which a cluster has to be
-- rebooted, a text inside SUPER may have 16,000,000 bytes; one of the envelope may not.
--
-- Times are in UTC. COPY reads Parquet by Redshift Spectrum, which has no TIMESTAMPTZ. Inside SUPER
-- they are text.
--
-- The bucket has to be in the region of the warehouse.

CREATE TABLE IF NOT EXISTS "every_kind" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMP NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "every_kind" SUPER
);

CREATE TABLE IF NOT EXISTS "order" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMP NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "order" SUPER
);

CREATE TABLE IF NOT EXISTS "group" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMP NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "group" SUPER
);

CREATE TABLE IF NOT EXISTS "user" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMP NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "user" SUPER
);

CREATE TABLE IF NOT EXISTS "day" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMP NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000),
  "day" SUPER
);

CREATE TABLE IF NOT EXISTS "unregistered" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMP NOT NULL,
  "payload_sha256" VARBYTE(1024000) NOT NULL,
  "attributes" SUPER,
  "_raw" VARBYTE(1024000)
);

COPY "every_kind" (
  "event_id",
  "message_id",
  "source",
  "type",
  "sent_at",
  "payload_sha256",
  "attributes",
  "_raw",
  "every_kind"
)
FROM 's3://YOUR_LAKE_BUCKET/events/every_kind/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;

COPY "order" (
  "event_id",
  "message_id",
  "source",
  "type",
  "sent_at",
  "payload_sha256",
  "attributes",
  "_raw",
  "order"
)
FROM 's3://YOUR_LAKE_BUCKET/events/order/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;

COPY "group" (
  "event_id",
  "message_id",
  "source",
  "type",
  "sent_at",
  "payload_sha256",
  "attributes",
  "_raw",
  "group"
)
FROM 's3://YOUR_LAKE_BUCKET/events/group/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;

COPY "user" (
  "event_id",
  "message_id",
  "source",
  "type",
  "sent_at",
  "payload_sha256",
  "attributes",
  "_raw",
  "user"
)
FROM 's3://YOUR_LAKE_BUCKET/events/user/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;

COPY "day" (
  "event_id",
  "message_id",
  "source",
  "type",
  "sent_at",
  "payload_sha256",
  "attributes",
  "_raw",
  "day"
)
FROM 's3://YOUR_LAKE_BUCKET/events/day/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;

COPY "unregistered" (
  "event_id",
  "message_id",
  "source",
  "type",
  "sent_at",
  "payload_sha256",
  "attributes",
  "_raw"
)
FROM 's3://YOUR_LAKE_BUCKET/events/unregistered/'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;
