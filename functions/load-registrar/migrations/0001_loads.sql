-- Tables, loads and snapshots (Cubic ADR 5), and what keeps them true whatever the order in which objects are told of:
-- the rules are here, so that they hold for every client, psql included.

create type cubic_table_kind as enum ('ods', 'dmap', 'kafka', 'dms', 'other');

create type cubic_load_status as enum (
  'ready', 'ingesting', 'ready_for_archiving', 'ready_for_erroring', 'archiving', 'erroring', 'archived', 'errored'
);

-- Tables --------------------------------------------------------------------------------------------------------------

create table cubic_tables (
  id bigint generated always as identity primary key,
  name text not null
    constraint cubic_tables_name_unique unique
    constraint cubic_tables_name_form check (name ~ '^[a-z0-9_]{1,255}$'),
  s3_prefix text collate "C" not null
    constraint cubic_tables_s3_prefix_unique unique
    constraint cubic_tables_s3_prefix_form check (s3_prefix ~ '^[^/](.*[^/])?/$'),
  kind cubic_table_kind not null,
  is_active boolean not null default true,
  inserted_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint cubic_tables_ods_prefix check (kind <> 'ods' or s3_prefix not like '%\_\_ct/')
);

comment on table cubic_tables is 'Tables of the lake whose objects are registered as loads.';
comment on column cubic_tables.id is 'Identity.';
comment on column cubic_tables.name is 'Name by the rule of Cubic ADR 5: cubic/ods_qlik/EDW.SAMPLE/ is cubic__ods_qlik__edw_sample.';
comment on column cubic_tables.s3_prefix is 'Keys of its objects start so; the longest prefix of an active table wins. The changes of an ODS table are in the twin folder …__ct/.';
comment on column cubic_tables.kind is 'Who writes its objects.';
comment on column cubic_tables.is_active is 'Whether objects under the prefix are registered. Those of an inactive table wait in unregistered_objects.';
comment on column cubic_tables.inserted_at is 'When the row was made.';
comment on column cubic_tables.updated_at is 'When the row was changed last.';

create table cubic_table_ods_snapshots (
  table_id bigint primary key references cubic_tables on delete cascade,
  snapshot timestamptz,
  snapshot_s3_key text collate "C" not null
    constraint cubic_table_ods_snapshots_key_unique unique
);

comment on table cubic_table_ods_snapshots is 'ODS tables: where their snapshots start, and the latest one.';
comment on column cubic_table_ods_snapshots.table_id is 'The table.';
comment on column cubic_table_ods_snapshots.snapshot is 'When the latest snapshot started: the time its object was modified. Null before the first.';
comment on column cubic_table_ods_snapshots.snapshot_s3_key is 'A put of this key starts a snapshot.';

create table cubic_ods_snapshot_history (
  table_id bigint not null references cubic_tables on delete cascade,
  snapshot timestamptz not null,
  snapshot_s3_key text collate "C" not null,
  inserted_at timestamptz not null default now(),
  primary key (table_id, snapshot)
);

comment on table cubic_ods_snapshot_history is 'Every snapshot of every ODS table; rows are only ever added. A snapshot reaches to the next one of its table.';
comment on column cubic_ods_snapshot_history.table_id is 'The table.';
comment on column cubic_ods_snapshot_history.snapshot is 'When it started.';
comment on column cubic_ods_snapshot_history.snapshot_s3_key is 'The key whose put started it.';
comment on column cubic_ods_snapshot_history.inserted_at is 'When the row was made.';

-- Loads ---------------------------------------------------------------------------------------------------------------

create table cubic_loads (
  id bigint generated always as identity primary key,
  table_id bigint not null references cubic_tables,
  status cubic_load_status not null,
  status_reason text,
  s3_key text collate "C" not null,
  s3_modified timestamptz not null,
  s3_size bigint not null constraint cubic_loads_s3_size_not_negative check (s3_size >= 0),
  s3_etag text not null,
  s3_version text,
  is_changes boolean not null,
  leased_by text,
  leased_until timestamptz,
  inserted_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint cubic_loads_identity unique (s3_key, s3_modified, s3_etag),
  constraint cubic_loads_empty_object check (s3_size > 0 or status in ('ready_for_erroring', 'erroring', 'errored')),
  constraint cubic_loads_lease check ((status = 'ingesting') or (leased_by is null and leased_until is null))
);

comment on table cubic_loads is 'Objects of the tables, each version once. Identity: key, time modified and ETag, however it became known.';
comment on column cubic_loads.id is 'Identity.';
comment on column cubic_loads.table_id is 'The table.';
comment on column cubic_loads.status is 'Where the load is on its way. Illegal steps are refused.';
comment on column cubic_loads.status_reason is 'Why it is ready_for_erroring or beyond: empty_object, no_snapshot, or what was said when the status was set.';
comment on column cubic_loads.s3_key is 'Key of the object, decoded.';
comment on column cubic_loads.s3_modified is 'When the object was modified, as S3 tells it: whole seconds.';
comment on column cubic_loads.s3_size is 'Size of the object in bytes.';
comment on column cubic_loads.s3_etag is 'ETag of the object, without quotes.';
comment on column cubic_loads.s3_version is 'Version of the object, if its bucket has versions and an event named it.';
comment on column cubic_loads.is_changes is 'Whether the object holds changes: its key is under …__ct/ of an ODS table.';
comment on column cubic_loads.leased_by is 'The job that ingests it.';
comment on column cubic_loads.leased_until is 'When another job may claim it.';
comment on column cubic_loads.inserted_at is 'When the load was registered.';
comment on column cubic_loads.updated_at is 'When the row was changed last.';

-- What a job asks for (ready loads of a table in order), and which table or snapshot a range of time belongs to.
create index cubic_loads_claimable on cubic_loads (table_id, s3_modified, id) where status in ('ready', 'ingesting');
create index cubic_loads_of_table on cubic_loads (table_id, s3_modified, id);
-- The oldest that is not done. Loads of a key are found by cubic_loads_identity.
create index cubic_loads_unfinished on cubic_loads (s3_modified, id) where status not in ('archived', 'errored');

create table cubic_load_ods_snapshots (
  load_id bigint primary key references cubic_loads on delete cascade,
  snapshot timestamptz not null
);

comment on table cubic_load_ods_snapshots is 'The snapshot that each load of an ODS table belongs to: the latest one of its table that is not after it.';
comment on column cubic_load_ods_snapshots.load_id is 'The load.';
comment on column cubic_load_ods_snapshots.snapshot is 'When the snapshot started.';

create table cubic_load_transitions (
  id bigint generated always as identity primary key,
  load_id bigint not null references cubic_loads on delete cascade,
  from_status cubic_load_status not null,
  to_status cubic_load_status not null,
  at timestamptz not null default now(),
  by text not null,
  reason text
);

create index cubic_load_transitions_of_load on cubic_load_transitions (load_id, id);

comment on table cubic_load_transitions is 'Every change of a status, and every lease that another job took over; rows are only ever added. The first status is that of the first row''s from_status.';
comment on column cubic_load_transitions.id is 'Identity, in the order of the changes.';
comment on column cubic_load_transitions.load_id is 'The load.';
comment on column cubic_load_transitions.from_status is 'The status before.';
comment on column cubic_load_transitions.to_status is 'The status after.';
comment on column cubic_load_transitions.at is 'When.';
comment on column cubic_load_transitions.by is 'Who: the setting landfall.by, or else the database user.';
comment on column cubic_load_transitions.reason is 'Why: the setting landfall.reason, or else the load''s status_reason.';

create table unregistered_objects (
  id bigint generated always as identity primary key,
  reason text not null constraint unregistered_objects_reason check (reason in ('no_table', 'key_holds_nul')),
  s3_key text collate "C" not null,
  s3_modified timestamptz not null,
  s3_size bigint not null,
  s3_etag text not null,
  s3_version text,
  inserted_at timestamptz not null default now(),
  constraint unregistered_objects_identity unique (reason, s3_key, s3_modified, s3_etag)
);

comment on table unregistered_objects is 'Objects that belong to no active table. They become loads when their table is added or activated.';
comment on column unregistered_objects.id is 'Identity.';
comment on column unregistered_objects.reason is 'no_table: no active table has a prefix of the key. key_holds_nul: the key holds a NUL, which no text here can.';
comment on column unregistered_objects.s3_key is 'Key of the object, decoded; with reason key_holds_nul as a notification encodes it.';
comment on column unregistered_objects.s3_modified is 'When the object was modified.';
comment on column unregistered_objects.s3_size is 'Size of the object in bytes.';
comment on column unregistered_objects.s3_etag is 'ETag of the object, without quotes.';
comment on column unregistered_objects.s3_version is 'Version of the object, if its bucket has versions and an event named it.';
comment on column unregistered_objects.inserted_at is 'When the row was made.';

create table reconcile_position (
  only_row boolean primary key default true check (only_row),
  prefix text not null,
  key text not null,
  updated_at timestamptz not null default now()
);

comment on table reconcile_position is 'Where the next scheduled reconciliation goes on; empty when the last one came to its end.';
comment on column reconcile_position.only_row is 'There is one row at the most.';
comment on column reconcile_position.prefix is 'The prefix that was being listed.';
comment on column reconcile_position.key is 'The last key that was compared.';
comment on column reconcile_position.updated_at is 'When the row was changed last.';

-- A load's way --------------------------------------------------------------------------------------------------------

create function legal_load_statuses(status cubic_load_status) returns cubic_load_status[]
language sql immutable
return case status
  when 'ready' then array['ingesting', 'ready_for_erroring']
  when 'ingesting' then array['ready_for_archiving', 'ready_for_erroring']
  when 'ready_for_archiving' then array['archiving']
  when 'archiving' then array['archived']
  when 'ready_for_erroring' then array['erroring', 'ready']
  when 'erroring' then array['errored']
  else array[]::text[]
end::cubic_load_status[];

comment on function legal_load_statuses is 'Where a load can go from a status.';

create function check_first_load_status() returns trigger
language plpgsql as $$
begin
  raise exception 'a load cannot start as %; it starts as ready or ready_for_erroring', new.status
    using errcode = 'check_violation', constraint = 'cubic_loads_first_status';
end
$$;

create trigger cubic_loads_first_status before insert on cubic_loads
for each row when (new.status not in ('ready', 'ready_for_erroring'))
execute function check_first_load_status();

create function check_load_transition() returns trigger
language plpgsql as $$
begin
  if (new.s3_key, new.s3_modified, new.s3_size, new.s3_etag) is distinct from
     (old.s3_key, old.s3_modified, old.s3_size, old.s3_etag) then
    raise exception 'load % is the object % as it was registered; another object is another load', old.id, old.s3_key
      using errcode = 'check_violation', constraint = 'cubic_loads_same_object';
  end if;
  new.updated_at := now();
  if new.status = old.status then
    if new.status <> 'ingesting'
       or (new.leased_by, new.leased_until) is not distinct from (old.leased_by, old.leased_until) then
      return new;
    end if;
  elsif new.status <> all (legal_load_statuses(old.status)) then
    raise exception 'load % cannot go from % to %; from % it can go to %', old.id, old.status, new.status, old.status,
      coalesce(nullif(array_to_string(legal_load_statuses(old.status), ' or '), ''), 'no other status')
      using errcode = 'check_violation', constraint = 'cubic_loads_transition';
  elsif new.status = 'ready' and new.s3_size = 0 then
    raise exception 'load % cannot go from % to ready: its object is empty', old.id, old.status
      using errcode = 'check_violation', constraint = 'cubic_loads_transition';
  elsif new.status = 'ready'
    and exists (select from cubic_table_ods_snapshots where table_id = new.table_id)
    and not exists (select from cubic_load_ods_snapshots where load_id = new.id) then
    raise exception 'load % cannot go from % to ready: it belongs to no snapshot yet', old.id, old.status
      using errcode = 'check_violation', constraint = 'cubic_loads_transition';
  end if;
  if new.status in ('ready', 'ingesting', 'ready_for_archiving') then
    new.status_reason := null;
  end if;
  if new.status <> 'ingesting' then
    new.leased_by := null;
    new.leased_until := null;
  end if;
  insert into cubic_load_transitions (load_id, from_status, to_status, by, reason)
  values (
    new.id, old.status, new.status,
    coalesce(nullif(current_setting('landfall.by', true), ''), session_user),
    case when new.status = old.status then format('the lease of %s ran out', coalesce(old.leased_by, 'nobody'))
      else coalesce(nullif(current_setting('landfall.reason', true), ''), new.status_reason, old.status_reason) end
  );
  return new;
end
$$;

create trigger cubic_loads_transition before update on cubic_loads
for each row execute function check_load_transition();

create function refuse_change() returns trigger
language plpgsql as $$
begin
  raise exception 'rows of % are only ever added', tg_table_name using errcode = 'restrict_violation';
end
$$;

create trigger cubic_load_transitions_append_only before update on cubic_load_transitions
for each row execute function refuse_change();
create trigger cubic_ods_snapshot_history_append_only before update on cubic_ods_snapshot_history
for each row execute function refuse_change();

-- Registering ---------------------------------------------------------------------------------------------------------

-- Registering reads the tables under a shared lock and changing them takes it alone: otherwise an object could be put
-- aside as belonging to no table just after the table has looked for the objects that wait for it.
create function lock_tables_shared() returns void
language sql
begin atomic
  select pg_advisory_xact_lock_shared(7236101);
end;

create function lock_tables() returns trigger
language plpgsql as $$
begin
  perform pg_advisory_xact_lock(7236101);
  return null;
end
$$;

create trigger cubic_tables_lock before insert or update or delete on cubic_tables
for each statement execute function lock_tables();

create function folder_of(key text) returns text
language sql immutable strict
return left(key, length(key) - strpos(reverse(key), '/') + 1);

comment on function folder_of is 'A key up to its last slash.';

create function changes_prefix(prefix text) returns text
language sql immutable strict
return left(prefix, -1) || '__ct/';

comment on function changes_prefix is 'Where the changes of an ODS table are: cubic/ods_qlik/EDW.SAMPLE/ → cubic/ods_qlik/EDW.SAMPLE__ct/.';

create function table_of(folder text) returns bigint
language sql stable
begin atomic
  select t.id
  from cubic_tables as t
  where t.is_active
    and (starts_with(folder, t.s3_prefix)
      or t.kind = 'ods' and starts_with(folder, changes_prefix(t.s3_prefix)))
  order by length(t.s3_prefix) desc
  limit 1;
end;

comment on function table_of is 'The active table with the longest prefix of a folder. The changes of an ODS table are in its folder''s twin.';

create function snapshot_at(of_table bigint, instant timestamptz) returns timestamptz
language sql stable
begin atomic
  select max(snapshot) from cubic_ods_snapshot_history where table_id = of_table and snapshot <= instant;
end;

comment on function snapshot_at is 'The latest snapshot of a table that is not after an instant.';

-- Gives the loads between a snapshot and the next one to it, makes those ready that only waited for one, and keeps the
-- latest in the table's row, which the caller has locked.
create function cover_by_snapshot(of_table bigint, started timestamptz) returns bigint
language plpgsql as $$
declare
  reaches_to timestamptz := (
    select coalesce(min(snapshot), 'infinity') from cubic_ods_snapshot_history
    where table_id = of_table and snapshot > started
  );
  released bigint;
begin
  insert into cubic_load_ods_snapshots as known (load_id, snapshot)
  select id, started from cubic_loads
  where table_id = of_table and s3_modified >= started and s3_modified < reaches_to
  order by id
  on conflict (load_id) do update set snapshot = excluded.snapshot where known.snapshot <> excluded.snapshot;
  with waiting as (
    select id from cubic_loads
    where table_id = of_table and s3_modified >= started and s3_modified < reaches_to
      and status = 'ready_for_erroring' and status_reason = 'no_snapshot' and s3_size > 0
    order by id
    for update
  )
  update cubic_loads set status = 'ready' from waiting where cubic_loads.id = waiting.id;
  get diagnostics released = row_count;
  update cubic_table_ods_snapshots set snapshot = started
  where table_id = of_table and (snapshot is null or snapshot < started);
  return released;
end
$$;

-- What objects are as loads; those without a table are none. In the order in which they are given.
create function loads_of(
  folder_tables bigint[], folder_changes boolean[], ods bigint[], folder_numbers integer[], covering timestamptz[],
  keys text[], modified timestamptz[], sizes bigint[], etags text[], versions text[]
) returns table (
  table_id bigint, status cubic_load_status, status_reason text, s3_key text, s3_modified timestamptz, s3_size bigint,
  s3_etag text, s3_version text, is_changes boolean
)
language sql stable
begin atomic
  select
    folder_tables[o.folder],
    case when o.size = 0 or folder_tables[o.folder] = any (ods) and o.snapshot is null
      then 'ready_for_erroring' else 'ready' end::cubic_load_status,
    case when o.size = 0 then 'empty_object'
      when folder_tables[o.folder] = any (ods) and o.snapshot is null then 'no_snapshot' end,
    o.key, o.modified, o.size, o.etag, o.version, folder_changes[o.folder]
  from unnest(keys, modified, sizes, etags, versions, folder_numbers, covering)
    as o (key, modified, size, etag, version, folder, snapshot)
  where folder_tables[o.folder] is not null;
end;

create function register_objects(
  folders text[], folder_numbers integer[],
  keys text[], modified timestamptz[], sizes bigint[], etags text[], versions text[], hold_nul boolean[],
  out registered bigint, out known bigint, out unregistered bigint, out snapshots bigint, out released bigint
)
language plpgsql as $$
declare
  folder_tables bigint[];
  folder_changes boolean[];
  ods bigint[];
  covering timestamptz[];
  started record;
  tableless bigint;
begin
  snapshots := 0;
  released := 0;
  unregistered := 0;
  perform lock_tables_shared();
  select array_agg(t.id order by f.n), array_agg(not starts_with(f.folder, t.s3_prefix) order by f.n)
  into folder_tables, folder_changes
  from unnest(folders) with ordinality as f (folder, n)
  left join cubic_tables as t on t.id = table_of(f.folder);
  -- Whoever starts a snapshot is alone with the table's loads; everybody else reads its snapshots in the meantime.
  select array_agg(table_id) into ods from cubic_table_ods_snapshots where table_id = any (folder_tables);
  if ods is not null then
    if exists (select from cubic_table_ods_snapshots where table_id = any (ods) and snapshot_s3_key = any (keys)) then
      perform from cubic_table_ods_snapshots where table_id = any (ods) order by table_id for update;
    else
      perform from cubic_table_ods_snapshots where table_id = any (ods) order by table_id for share;
    end if;
    for started in
      insert into cubic_ods_snapshot_history (table_id, snapshot, snapshot_s3_key)
      select s.table_id, o.modified, o.key
      from unnest(keys, modified, folder_numbers) as o (key, modified, folder)
      join cubic_table_ods_snapshots as s on s.table_id = folder_tables[o.folder] and s.snapshot_s3_key = o.key
      order by s.table_id, o.modified
      on conflict (table_id, snapshot) do nothing
      returning table_id, snapshot
    loop
      snapshots := snapshots + 1;
      released := released + cover_by_snapshot(started.table_id, started.snapshot);
    end loop;
    select array_agg(case when folder_tables[o.folder] = any (ods) then snapshot_at(folder_tables[o.folder], o.modified) end
      order by o.n)
    into covering
    from unnest(folder_numbers, modified) with ordinality as o (folder, modified, n);
  end if;
  begin
    -- Mostly nobody knows any of them, and then this is a tenth faster than looking at each.
    insert into cubic_loads (
      table_id, status, status_reason, s3_key, s3_modified, s3_size, s3_etag, s3_version, is_changes
    )
    select * from loads_of(
      folder_tables, folder_changes, ods, folder_numbers, covering, keys, modified, sizes, etags, versions
    );
    get diagnostics registered = row_count;
  exception when unique_violation then
    insert into cubic_loads (
      table_id, status, status_reason, s3_key, s3_modified, s3_size, s3_etag, s3_version, is_changes
    )
    select * from loads_of(
      folder_tables, folder_changes, ods, folder_numbers, covering, keys, modified, sizes, etags, versions
    )
    on conflict (s3_key, s3_modified, s3_etag) do nothing;
    get diagnostics registered = row_count;
  end;
  if ods is not null then
    insert into cubic_load_ods_snapshots (load_id, snapshot)
    select l.id, o.snapshot
    from unnest(keys, modified, etags, covering) as o (key, modified, etag, snapshot)
    join cubic_loads as l on l.s3_key = o.key and l.s3_modified = o.modified and l.s3_etag = o.etag
    where o.snapshot is not null
    order by l.id
    on conflict (load_id) do nothing;
  end if;
  tableless := 0;
  if array_position(folder_tables, null) is not null then
    tableless := (select count(*) from unnest(folder_numbers) as folder where folder_tables[folder] is null);
    insert into unregistered_objects (reason, s3_key, s3_modified, s3_size, s3_etag, s3_version)
    select case when o.nul then 'key_holds_nul' else 'no_table' end, o.key, o.modified, o.size, o.etag, o.version
    from unnest(keys, modified, sizes, etags, versions, hold_nul, folder_numbers)
      as o (key, modified, size, etag, version, nul, folder)
    where folder_tables[o.folder] is null
    on conflict do nothing;
    get diagnostics unregistered = row_count;
  end if;
  known := cardinality(keys) - tableless - registered;
end
$$;

comment on function register_objects is
  'Registers objects, given as arrays of the same length, any number of times. folder_numbers: the position of each one''s folder in folders. Give them in the order of their keys, so that calls with the same objects do not wait for each other. registered: new loads. known: objects that were loads before. unregistered: objects newly put aside because they belong to no active table. snapshots: snapshots that started. released: loads that only waited for one of them.';

create function pick_up_objects() returns trigger
language plpgsql as $$
declare
  found record;
begin
  loop
    with object as (
      delete from unregistered_objects
      where id in (
        select id from unregistered_objects
        where reason = 'no_table'
          and (s3_key ^@ new.s3_prefix or new.kind = 'ods' and s3_key ^@ changes_prefix(new.s3_prefix))
          and table_of(folder_of(s3_key)) is not null
        limit 10000
      )
      returning *
    ), numbered as (
      select *, folder_of(s3_key) as folder, dense_rank() over (order by folder_of(s3_key))::integer as number from object
    )
    select
      array_agg(distinct folder order by folder) as folders, array_agg(number order by s3_key) as numbers,
      array_agg(s3_key order by s3_key) as keys, array_agg(s3_modified order by s3_key) as modified,
      array_agg(s3_size order by s3_key) as sizes, array_agg(s3_etag order by s3_key) as etags,
      array_agg(s3_version order by s3_key) as versions, array_agg(false) as hold_nul
    into found from numbered;
    exit when found.keys is null;
    perform register_objects(
      found.folders, found.numbers,
      found.keys, found.modified, found.sizes, found.etags, found.versions, found.hold_nul
    );
  end loop;
  return null;
end
$$;

-- After the statement's other triggers and after the ODS row of the same transaction, so that a table and its snapshot
-- key are there together.
create constraint trigger cubic_tables_pick_up_objects after insert or update of s3_prefix, kind, is_active on cubic_tables
deferrable initially deferred
for each row execute function pick_up_objects();

create function start_snapshots() returns trigger
language plpgsql as $$
declare
  started record;
begin
  for started in
    insert into cubic_ods_snapshot_history (table_id, snapshot, snapshot_s3_key)
    select distinct table_id, s3_modified, s3_key from cubic_loads
    where table_id = new.table_id and s3_key = new.snapshot_s3_key
    order by s3_modified
    on conflict (table_id, snapshot) do nothing
    returning table_id, snapshot
  loop
    perform cover_by_snapshot(started.table_id, started.snapshot);
  end loop;
  return null;
end
$$;

create trigger cubic_table_ods_snapshots_start after insert or update of snapshot_s3_key on cubic_table_ods_snapshots
for each row execute function start_snapshots();
