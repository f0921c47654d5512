-- Everything that is true of a load status by itself, and a place for objects that are not data. How to add a status is
-- in README.md beside this file.

-- Load statuses -------------------------------------------------------------------------------------------------------

-- "Unfinished" follows from the legal steps, so that a new status needs no entry here.
create function is_unfinished(status cubic_load_status) returns boolean
language sql immutable strict
return cardinality(legal_load_statuses(status)) > 0;

comment on function is_unfinished is 'Whether a load of this status has steps left to take.';

create function needs_object(status cubic_load_status) returns boolean
language sql immutable strict
return status in ('ready', 'ingesting', 'ready_for_archiving', 'ready_for_erroring');

comment on function needs_object is
  'Whether the object of a load of this status has to be in the incoming bucket. Archiving and erroring move it away.';

-- No query used this index, and its condition spelled the finished statuses once more.
drop index cubic_loads_unfinished;

-- Objects that are not data -------------------------------------------------------------------------------------------

alter table unregistered_objects drop constraint unregistered_objects_reason;
alter table unregistered_objects add constraint unregistered_objects_reason
  check (reason in ('no_table', 'key_holds_nul', 'not_data'));

comment on table unregistered_objects is
  'Objects that are no loads. Those with the reason no_table become loads when their table is added or activated.';
comment on column unregistered_objects.reason is
  'no_table: no active table has a prefix of the key. key_holds_nul: the key holds a NUL character, which Postgres cannot store in a text. not_data: the key does not end like a data file.';
comment on column unregistered_objects.s3_key is
  'Key of the object, decoded; with the reason key_holds_nul URL-encoded, as in a notification of S3.';

-- For lists in the order of the keys, of all reasons together.
create index unregistered_objects_by_key on unregistered_objects (s3_key, id);

create function set_aside_objects(
  reasons text[], keys text[], modified timestamptz[], sizes bigint[], etags text[], versions text[]
) returns void
language sql
begin atomic
  insert into unregistered_objects (reason, s3_key, s3_modified, s3_size, s3_etag, s3_version)
  select * from unnest(reasons, keys, modified, sizes, etags, versions)
  on conflict do nothing;
end;

comment on function set_aside_objects is
  'Records objects that can never be loads, given as arrays of the same length, any number of times. Give them in the order of their keys, so that concurrent calls with the same objects do not deadlock.';

-- Comments of 0001 in plainer words -----------------------------------------------------------------------------------

comment on column cubic_tables.name is
  'Name of the table. Without one in the declaration it is made from the prefix: cubic/ods_qlik/EDW.SAMPLE/ becomes cubic__ods_qlik__edw_sample.';
comment on column cubic_tables.s3_prefix is
  'Prefix of the keys of its objects; of several active tables, the one with the longest prefix gets an object. The changes of an ODS table are in the sibling folder …__ct/.';
comment on column cubic_tables.kind is
  'What writes the objects. Only ods changes how they are registered: such tables have snapshots and a folder of changes.';
comment on column cubic_tables.inserted_at is 'When the row was inserted.';
comment on column cubic_tables.updated_at is 'When the row was last updated.';
comment on table cubic_table_ods_snapshots is 'The snapshot key and the latest snapshot of each ODS table.';
comment on column cubic_table_ods_snapshots.snapshot is
  'When the latest snapshot started, which is when its object was modified. Null before the first.';
comment on table cubic_ods_snapshot_history is
  'Every snapshot of every ODS table, append-only. A snapshot ends when the next one of its table starts.';
comment on column cubic_ods_snapshot_history.inserted_at is 'When the row was inserted.';
comment on table cubic_loads is
  'One row for each version of each object of the tables. Key, modification time and ETag identify a version.';
comment on column cubic_loads.status is 'Status of the load. The database refuses illegal steps: see legal_load_statuses.';
comment on column cubic_loads.status_reason is
  'Why the load is ready_for_erroring, erroring or errored: empty_object, no_snapshot, or the reason given with the status.';
comment on column cubic_loads.s3_modified is 'When the object was modified, according to S3, in whole seconds.';
comment on column cubic_loads.s3_version is 'Version id of the object, if the bucket has versioning and a notification named it.';
comment on column cubic_loads.leased_by is 'The job that has claimed the load.';
comment on column cubic_loads.leased_until is 'When the lease expires and another job may claim the load.';
comment on column cubic_loads.inserted_at is 'When the load was registered.';
comment on column cubic_loads.updated_at is 'When the row was last updated.';
comment on table cubic_load_ods_snapshots is
  'The snapshot of each load of an ODS table: the latest one that started no later than the object was modified.';
comment on table cubic_load_transitions is
  'Audit log of statuses, append-only: every change, and every expired lease that another job took over. The first row''s from_status is the status in which the load was registered.';
comment on column cubic_load_transitions.at is 'When the status changed.';
comment on column cubic_load_transitions.by is 'Who changed it: the setting landfall.by, or the database user if it is not set.';
comment on column cubic_load_transitions.reason is
  'Why: the setting landfall.reason, or the load''s status_reason if it is not set.';
comment on column unregistered_objects.s3_version is 'Version id of the object, if the bucket has versioning and a notification named it.';
comment on column unregistered_objects.inserted_at is 'When the row was inserted.';
comment on table reconcile_position is
  'Checkpoint of the scheduled reconciliation: where the next one resumes. Empty when the last one finished.';
comment on column reconcile_position.only_row is 'Always true, so that there is at most one row.';
comment on column reconcile_position.prefix is 'The prefix that was being listed.';
comment on column reconcile_position.key is 'The last key that was compared.';
comment on column reconcile_position.updated_at is 'When the row was last updated.';
comment on function legal_load_statuses is 'The statuses that a load can go to from a status.';
comment on function register_objects is
  'Registers objects, given as arrays of the same length, any number of times. folder_numbers: the position in folders of each object''s folder. Give the objects in the order of their keys, so that concurrent calls with the same objects do not deadlock. registered: new loads. known: objects that were loads already. unregistered: objects newly set aside because no active table takes them. snapshots: snapshots that started. released: loads that were waiting for one of these snapshots.';
