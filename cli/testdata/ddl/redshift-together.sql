-- Made by: landfall ddl redshift
--
-- Replace YOUR_LAKE_BUCKET by the bucket in the output LakeBucketName of the stack, or give
-- --bucket.
--
-- COPY loads Parquet by position, and refuses a file with another number of columns than its list.
-- The list has the columns of the files in their order, that of proto/columns.txt; in which order
-- the table has them does not count. A new event type is a new column at the end of the files:
-- landfall ddl redshift --added COLUMN prints its ALTER TABLE and the COPY with the longer list.
-- Files from before need the shorter list, that of the COPY that you have; or append FILLRECORD,
-- with which columns that are missing at the end of a file are NULL. With --layout by-type none of
-- this is needed.
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

CREATE TABLE IF NOT EXISTS "events" (
  "event_id" VARCHAR(65535) NOT NULL,
  "message_id" VARCHAR(65535) NOT NULL,
  "source" VARCHAR(65535),
  "type" VARCHAR(65535) NOT NULL,
  "sent_at" TIMESTAMP NOT NULL,
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
-- other columns. Years before 2000, which there are only if WriterEventTimeMaxAgeDays is decades,
-- begin with 1.
COPY "events" (
  "event_id",
  "message_id",
  "source",
  "type",
  "sent_at",
  "payload_sha256",
  "attributes",
  "_raw",
  "every_kind",
  "order",
  "group",
  "user",
  "day"
)
FROM 's3://YOUR_LAKE_BUCKET/events/2'
IAM_ROLE DEFAULT
FORMAT AS PARQUET SERIALIZETOJSON;
