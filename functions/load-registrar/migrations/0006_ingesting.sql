-- What load-ingester has to know of a table, and what became of a load.

alter table cubic_tables
  add column columns jsonb
    constraint cubic_tables_columns check (jsonb_typeof(columns) = 'array'),
  add column on_misfit text not null default 'quarantine'
    constraint cubic_tables_on_misfit check (on_misfit in ('quarantine', 'fail', 'null'));

comment on column cubic_tables.columns is
  'Names and types of the columns, as [{"name": "id", "type": "INT8"}]. Null: what the .dfm beside an object says, or text.';
comment on column cubic_tables.on_misfit is
  'What happens to a value that does not fit the type of its column: its row goes to the quarantine, the load fails, or the value becomes null.';

alter table cubic_loads add column result jsonb;

comment on column cubic_loads.result is
  'What the job that ingested the load said: rows, quarantined rows, files, and columns that were added or missing.';
