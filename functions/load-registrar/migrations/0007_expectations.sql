-- When tables expect objects, reconciliations of several prefixes at once or from an inventory, and what is needed to forget
-- old rows. Nothing that earlier versions of load-registrar use is changed.

-- Expectations --------------------------------------------------------------------------------------------------------

alter table cubic_tables
  add column expectation text
    constraint cubic_tables_expectation_form check (expectation ~ '^(daily by|weekdays by|hourly by|every) '),
  add column expectation_since timestamptz;

comment on column cubic_tables.expectation is
  'When the table expects objects, such as daily by 06:00 America/New_York, weekdays by 18:30 Europe/Berlin, hourly by :15 or every 15m. Null if it expects none.';
comment on column cubic_tables.expectation_since is
  'When the expectation was declared. A table that has no loads yet is late from then on.';

-- Where reconciliations resume ----------------------------------------------------------------------------------------

create table reconcile_ranges (
  prefix text collate "C" not null,
  key text collate "C" not null,
  until text collate "C",
  cause text,
  updated_at timestamptz not null default now(),
  primary key (prefix, key)
);

comment on table reconcile_ranges is
  'Ranges of keys that the scheduled reconciliation has not compared yet. Empty when the last one compared everything.';
comment on column reconcile_ranges.prefix is
  'The prefix that is listed. Without a cause, prefixes behind the last one of this table are not compared either.';
comment on column reconcile_ranges.key is 'The range begins after this key; empty at the start of the prefix.';
comment on column reconcile_ranges.until is 'The last key of the range. Null if it reaches to the end of the prefix.';
comment on column reconcile_ranges.cause is 'Why the range could not be compared. Null if there was no time for it.';
comment on column reconcile_ranges.updated_at is 'When the row was inserted.';

comment on table reconcile_position is
  'Checkpoint of the scheduled reconciliation of versions before reconcile_ranges. Later ones do not use it.';

create table reconcile_inventory (
  only_row boolean primary key default true check (only_row),
  manifest text not null,
  file integer not null,
  row bigint not null,
  finished_at timestamptz,
  updated_at timestamptz not null default now()
);

comment on table reconcile_inventory is 'Checkpoint of the scheduled reconciliation with an inventory of S3.';
comment on column reconcile_inventory.only_row is 'Always true, so that there is at most one row.';
comment on column reconcile_inventory.manifest is 'Address of the manifest.json of the inventory.';
comment on column reconcile_inventory.file is 'Position in the manifest of the file that is being compared, from 0.';
comment on column reconcile_inventory.row is 'Number of rows of this file that have been compared.';
comment on column reconcile_inventory.finished_at is 'When the whole inventory had been compared. Null until then.';
comment on column reconcile_inventory.updated_at is 'When the row was last updated.';

-- Old rows ------------------------------------------------------------------------------------------------------------

-- Rows are only ever added, in the order of time: a summary of each range of pages is enough to find the oldest.
create index cubic_load_transitions_by_time on cubic_load_transitions using brin (at);

create index unregistered_objects_by_age on unregistered_objects (inserted_at) where reason in ('not_data', 'key_holds_nul');
