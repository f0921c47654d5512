-- Made by: landfall ddl redshift --added order --added user
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

ALTER TABLE "events" ADD COLUMN "order" SUPER;

ALTER TABLE "events" ADD COLUMN "user" SUPER;
