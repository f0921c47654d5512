-- Where the files of loads are, so that a snapshot that arrives late moves them; and tables that change at any time, whose objects
-- are settled in steps.

-- Places --------------------------------------------------------------------------------------------------------------

create function compact_time(instant timestamptz) returns text
language sql immutable strict
return to_char(instant at time zone 'UTC', 'YYYYMMDD"T"HH24MISS"Z"');

comment on function compact_time is 'A time in the names of folders: 20220101T204020Z.';

create function place_of(load cubic_loads) returns text
language sql stable
begin atomic
  select case when load.is_changes then changes_prefix(t.s3_prefix) else t.s3_prefix end
    || coalesce('snapshot=' || compact_time(o.snapshot), 'timestamp=' || compact_time(load.s3_modified)) || '/'
  from cubic_tables as t
  left join cubic_load_ods_snapshots as o on o.load_id = load.id
  where t.id = load.table_id;
end;

comment on function place_of is
  'The folder in which the files of a load belong, below springboard/ and archive/: that of its table, and of its snapshot or, without one, of the time its object was modified.';

create table cubic_load_places (
  load_id bigint not null references cubic_loads on delete cascade,
  lease bigint not null,
  place text collate "C" not null,
  is_complete boolean not null default false,
  primary key (load_id, lease)
);

comment on table cubic_load_places is
  'The folders in which files of a load may be: each claim to ingest or archive it adds one, and when it is archived the one where it belongs is left.';
comment on column cubic_load_places.load_id is 'The load.';
comment on column cubic_load_places.lease is 'The lease whose job may have written there. 0: from before leases were numbered.';
comment on column cubic_load_places.place is 'The folder below springboard/.';
comment on column cubic_load_places.is_complete is 'Whether all files of the load are there.';

insert into cubic_load_places (load_id, lease, place, is_complete)
select l.id, 0, place_of(l), true from cubic_loads as l where l.status in ('ready_for_archiving', 'archiving', 'archived');

create function is_displaced(load cubic_loads) returns boolean
language sql stable
begin atomic
  select exists (
    select from cubic_load_places where load_id = load.id and is_complete and place <> place_of(load)
  );
end;

comment on function is_displaced is
  'Whether the files of a load are in another folder than they belong in, because a snapshot was registered after the load had been ingested.';

-- An archived load whose snapshot changed is archived once more.
create or replace function legal_load_statuses(status cubic_load_status) returns cubic_load_status[]
language sql immutable
return case status
  when 'ready' then array['ingesting', 'ready_for_erroring']
  when 'ingesting' then array['ready', 'ready_for_archiving', 'ready_for_erroring']
  when 'ready_for_archiving' then array['archiving']
  when 'archiving' then array['ready_for_archiving', 'archived']
  when 'ready_for_erroring' then array['ready', 'erroring']
  when 'erroring' then array['ready_for_erroring', 'errored']
  when 'archived' then array['ready_for_archiving']
  else array[]::text[]
end::cubic_load_status[];

create or replace function is_unfinished(status cubic_load_status) returns boolean
language sql immutable strict
return status not in ('archived', 'errored');

-- Keeps the places of a load while it takes a step. After the step, because a claim takes the lease that it names.
create function keep_places() returns trigger
language plpgsql as $$
begin
  if new.status in ('ingesting', 'archiving') and new.lease <> old.lease then
    insert into cubic_load_places (load_id, lease, place) values (new.id, new.lease, place_of(new));
  elsif old.status = 'ingesting' and new.status = 'ready_for_archiving' then
    update cubic_load_places set is_complete = lease = new.lease where load_id = new.id;
  elsif old.status = 'archiving' and new.status = 'archived' then
    -- Waits for a snapshot that is just being registered.
    perform from cubic_load_ods_snapshots where load_id = new.id for share;
    if exists (select from cubic_load_places where load_id = new.id and lease = new.lease and place <> place_of(new)) then
      raise exception 'load % was archived in a folder in which it belongs no longer, because its snapshot has changed: set it to ready_for_archiving', new.id
        using errcode = 'check_violation', constraint = 'cubic_loads_place';
    end if;
    delete from cubic_load_places where load_id = new.id and lease <> new.lease;
    update cubic_load_places set is_complete = true where load_id = new.id;
  elsif new.status = 'ready' and table_of(folder_of(new.s3_key)) is distinct from new.table_id then
    -- Tables have changed while a job had the load.
    perform unsettle(array[new.s3_key]);
  elsif old.status = 'archived' and not is_displaced(new) then
    raise exception 'load % is archived where it belongs', new.id
      using errcode = 'check_violation', constraint = 'cubic_loads_place';
  end if;
  return null;
end
$$;

create trigger cubic_loads_places after update on cubic_loads
for each row when (new.status <> old.status or new.lease <> old.lease) execute function keep_places();

-- Late snapshots ------------------------------------------------------------------------------------------------------

-- When the snapshot key of a table changes, the snapshots of the former one are history.
alter table cubic_ods_snapshot_history drop constraint cubic_ods_snapshot_history_pkey;
alter table cubic_ods_snapshot_history add primary key (table_id, snapshot, snapshot_s3_key);

comment on table cubic_ods_snapshot_history is
  'Every snapshot of every ODS table, append-only. A snapshot ends when the next one of the same table and key starts.';

create or replace function snapshot_at(of_table bigint, instant timestamptz) returns timestamptz
language sql stable
begin atomic
  select max(h.snapshot)
  from cubic_ods_snapshot_history as h
  join cubic_table_ods_snapshots as s on s.table_id = h.table_id and s.snapshot_s3_key = h.snapshot_s3_key
  where h.table_id = of_table and h.snapshot <= instant;
end;

comment on function snapshot_at is 'The latest snapshot of a table, by its current key, that is not after an instant.';

drop function cover_by_snapshot;

-- Gives the loads between a snapshot and the next one to it, makes those ready that only waited for one, lets those that are
-- archived be archived where they belong now, and keeps the latest in the table's row, which the caller has locked.
create function cover_by_snapshot(of_table bigint, started timestamptz, out released bigint, out displaced bigint)
language plpgsql as $$
declare
  reaches_to timestamptz := (
    select coalesce(min(h.snapshot), 'infinity')
    from cubic_ods_snapshot_history as h
    join cubic_table_ods_snapshots as s on s.table_id = h.table_id and s.snapshot_s3_key = h.snapshot_s3_key
    where h.table_id = of_table and h.snapshot > started
  );
  moved bigint[];
  archived bigint;
begin
  with changed as (
    insert into cubic_load_ods_snapshots as known (load_id, snapshot)
    select id, started from cubic_loads
    where table_id = of_table and s3_modified >= started and s3_modified < reaches_to
    order by id
    on conflict (load_id) do update set snapshot = excluded.snapshot where known.snapshot <> excluded.snapshot
    returning load_id
  )
  select array_agg(load_id order by load_id) into moved from changed;
  with waiting as (
    select id from cubic_loads
    where table_id = of_table and s3_modified >= started and s3_modified < reaches_to
      and status = 'ready_for_erroring' and status_reason = 'no_snapshot' and s3_size > 0
    order by id
    for update
  )
  update cubic_loads set status = 'ready' from waiting where cubic_loads.id = waiting.id;
  get diagnostics released = row_count;
  -- Loads that are being ingested or archived find their new place when they are archived.
  insert into cubic_load_transitions (load_id, from_status, to_status, by, reason)
  select l.id, l.status, l.status, session_user, 'snapshot_changed' from cubic_loads as l
  where l.id = any (moved) and is_displaced(l) and l.status <> 'archived';
  get diagnostics displaced = row_count;
  with done as (
    select l.id from cubic_loads as l where l.id = any (moved) and l.status = 'archived' and is_displaced(l)
    order by id
    for update
  )
  update cubic_loads set status = 'ready_for_archiving', status_reason = 'snapshot_changed'
  from done where cubic_loads.id = done.id;
  get diagnostics archived = row_count;
  displaced := displaced + archived;
  update cubic_table_ods_snapshots set snapshot = started
  where table_id = of_table and (snapshot is null or snapshot < started);
end
$$;

drop function register_objects;

create function register_objects(
  folders text[], folder_numbers integer[],
  keys text[], modified timestamptz[], sizes bigint[], etags text[], versions text[], hold_nul boolean[],
  out registered bigint, out known bigint, out unregistered bigint, out snapshots bigint, out released bigint,
  out displaced bigint
)
language plpgsql as $$
declare
  folder_tables bigint[];
  folder_changes boolean[];
  ods bigint[];
  covering timestamptz[];
  started record;
  covered record;
  tableless bigint;
begin
  snapshots := 0;
  released := 0;
  displaced := 0;
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
      on conflict (table_id, snapshot, snapshot_s3_key) do nothing
      returning table_id, snapshot
    loop
      snapshots := snapshots + 1;
      covered := cover_by_snapshot(started.table_id, started.snapshot);
      released := released + covered.released;
      displaced := displaced + covered.displaced;
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
    -- A listing does not tell versions, and the notification that does may come after it.
    update cubic_loads as l set s3_version = o.version
    from unnest(keys, modified, etags, versions) as o (key, modified, etag, version)
    where l.s3_key = o.key and l.s3_modified = o.modified and l.s3_etag = o.etag
      and l.s3_version is null and o.version is not null;
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
  'Registers objects, given as arrays of the same length, any number of times. folder_numbers: the position in folders of each object''s folder. Give the objects in the order of their keys, so that concurrent calls with the same objects do not deadlock. registered: new loads. known: objects that were loads already. unregistered: objects newly set aside because no active table takes them. snapshots: snapshots that started. released: loads that were waiting for one of these snapshots. displaced: loads that had been ingested already and belong to one of these snapshots.';

-- Tables that change --------------------------------------------------------------------------------------------------

-- A change of tables only notes the prefixes whose objects it concerns. settle_objects goes through them in steps, so that a
-- million objects do not have to be settled in one transaction that holds up registering.
create table unsettled_prefixes (
  prefix text collate "C" primary key,
  only_unregistered boolean not null default false,
  settled_to text collate "C" not null default ''
);

comment on table unsettled_prefixes is
  'Prefixes of objects that may belong to other tables or snapshots than they are registered for, because tables changed. Empty when all is settled.';
comment on column unsettled_prefixes.prefix is 'Keys of the objects start with it.';
comment on column unsettled_prefixes.only_unregistered is 'Whether all loads are settled, so that the objects without a load are left.';
comment on column unsettled_prefixes.settled_to is 'The last key that is settled.';

create function unsettle(prefixes text[]) returns void
language sql
begin atomic
  insert into unsettled_prefixes (prefix) select distinct p from unnest(prefixes) as p where p is not null order by p
  on conflict (prefix) do update set only_unregistered = false, settled_to = '';
end;

drop trigger cubic_tables_pick_up_objects on cubic_tables;
drop function pick_up_objects;

create function unsettle_table() returns trigger
language plpgsql as $$
begin
  if tg_op <> 'INSERT' then
    perform unsettle(array[old.s3_prefix, case when old.kind = 'ods' then changes_prefix(old.s3_prefix) end]);
  end if;
  if tg_op <> 'DELETE' then
    perform unsettle(array[new.s3_prefix, case when new.kind = 'ods' then changes_prefix(new.s3_prefix) end]);
  end if;
  return null;
end
$$;

create trigger cubic_tables_unsettle_new after insert or delete on cubic_tables
for each row execute function unsettle_table();
create trigger cubic_tables_unsettle after update on cubic_tables
for each row when ((new.s3_prefix, new.kind, new.is_active) is distinct from (old.s3_prefix, old.kind, old.is_active))
execute function unsettle_table();

-- The snapshots of the current key of a table, after it was declared or its key was changed.
create or replace function start_snapshots() returns trigger
language plpgsql as $$
begin
  update cubic_table_ods_snapshots set snapshot = snapshot_at(new.table_id, 'infinity') where table_id = new.table_id;
  perform unsettle(array[s3_prefix, changes_prefix(s3_prefix)]) from cubic_tables where id = new.table_id;
  return null;
end
$$;

drop trigger cubic_table_ods_snapshots_start on cubic_table_ods_snapshots;
create trigger cubic_table_ods_snapshots_start after insert on cubic_table_ods_snapshots
for each row execute function start_snapshots();
create trigger cubic_table_ods_snapshots_restart after update on cubic_table_ods_snapshots
for each row when (new.snapshot_s3_key <> old.snapshot_s3_key) execute function start_snapshots();

create function is_unclaimed(load cubic_loads) returns boolean
language sql immutable
return load.status = 'ready'
  or load.status = 'ready_for_erroring' and load.status_reason in ('empty_object', 'no_snapshot');

comment on function is_unclaimed is 'Whether no job has decided anything about a load, so that it follows its table.';

-- Gives loads to the tables and snapshots that they belong to now.
create function settle_loads(ids bigint[], out moved bigint, out set_aside bigint)
language plpgsql as $$
declare
  tableless bigint[];
  started record;
begin
  select coalesce(array_agg(id), '{}') into tableless from cubic_loads
  where id = any (ids) and lease = 0 and table_of(folder_of(s3_key)) is null;
  insert into unregistered_objects (reason, s3_key, s3_modified, s3_size, s3_etag, s3_version)
  select 'no_table', s3_key, s3_modified, s3_size, s3_etag, s3_version from cubic_loads where id = any (tableless)
  order by s3_key
  on conflict do nothing;
  delete from cubic_loads where id = any (tableless);
  get diagnostics set_aside = row_count;
  with folder as (
    select folder, t.id as table_id, not starts_with(folder, t.s3_prefix) as is_changes
    from (select distinct folder_of(s3_key) as folder from cubic_loads where id = any (ids)) as f
    join cubic_tables as t on t.id = table_of(folder)
  )
  update cubic_loads as l set table_id = folder.table_id, is_changes = folder.is_changes
  from folder
  where l.id = any (ids) and folder_of(l.s3_key) = folder.folder
    and (l.table_id, l.is_changes) is distinct from (folder.table_id, folder.is_changes);
  get diagnostics moved = row_count;
  for started in
    insert into cubic_ods_snapshot_history (table_id, snapshot, snapshot_s3_key)
    select distinct l.table_id, l.s3_modified, l.s3_key from cubic_loads as l
    join cubic_table_ods_snapshots as s on s.table_id = l.table_id and s.snapshot_s3_key = l.s3_key
    where l.id = any (ids)
    order by l.table_id, l.s3_modified
    on conflict do nothing
    returning table_id, snapshot
  loop
    perform cover_by_snapshot(started.table_id, started.snapshot);
  end loop;
  with due as (
    select l.id, snapshot_at(l.table_id, l.s3_modified) as snapshot from cubic_loads as l where l.id = any (ids)
  ), gone as (
    delete from cubic_load_ods_snapshots as o using due where o.load_id = due.id and due.snapshot is null
  )
  insert into cubic_load_ods_snapshots as known (load_id, snapshot)
  select id, snapshot from due where snapshot is not null order by id
  on conflict (load_id) do update set snapshot = excluded.snapshot where known.snapshot <> excluded.snapshot;
  update cubic_loads as l
  set status = case when waits then 'ready_for_erroring' else 'ready' end::cubic_load_status,
    status_reason = case when waits then 'no_snapshot' end
  from (
    select id, exists (select from cubic_table_ods_snapshots as s where s.table_id = c.table_id)
      and not exists (select from cubic_load_ods_snapshots as o where o.load_id = c.id) as waits
    from cubic_loads as c where id = any (ids) and s3_size > 0
  ) as due
  where l.id = due.id and (l.status = 'ready') = due.waits;
end
$$;

create function settle_objects(
  max_objects integer, out picked_up bigint, out moved bigint, out set_aside bigint, out is_settled boolean
)
language plpgsql as $$
declare
  work unsettled_prefixes;
  last text;
  the_end text;
  ids bigint[];
  found record;
begin
  picked_up := 0;
  moved := 0;
  set_aside := 0;
  perform lock_tables_shared();
  select * into work from unsettled_prefixes order by prefix limit 1 for update skip locked;
  if work is null then
    is_settled := not exists (select from unsettled_prefixes);
    return;
  end if;
  is_settled := false;
  -- Comparisons are what an index can look up. No key with the prefix is after the end.
  the_end := work.prefix || repeat(chr(1114111), 256);
  if not work.only_unregistered then
    perform from cubic_table_ods_snapshots as s join cubic_tables as t on t.id = s.table_id
    where starts_with(work.prefix, t.s3_prefix) or starts_with(work.prefix, changes_prefix(t.s3_prefix))
      or starts_with(t.s3_prefix, work.prefix)
    order by s.table_id for update of s;
    select max(s3_key) into last from (
      select s3_key from cubic_loads where s3_key >= work.prefix and s3_key > work.settled_to and s3_key <= the_end
      order by s3_key limit max_objects
    ) as page;
    select array_agg(id) into ids from (
      select id from cubic_loads as l
      where s3_key >= work.prefix and s3_key > work.settled_to and s3_key <= last and is_unclaimed(l)
      order by id for update
    ) as page;
    if ids is not null then
      select * into moved, set_aside from settle_loads(ids);
    end if;
    update unsettled_prefixes set only_unregistered = last is null, settled_to = coalesce(last, '')
    where prefix = work.prefix;
    return;
  end if;
  select max(s3_key) into last from (
    select s3_key from unregistered_objects
    where s3_key >= work.prefix and s3_key > work.settled_to and s3_key <= the_end
    order by s3_key limit max_objects
  ) as page;
  if last is null then
    delete from unsettled_prefixes where prefix = work.prefix;
    is_settled := not exists (select from unsettled_prefixes);
    return;
  end if;
  with folder as (
    select folder from (
      select distinct folder_of(s3_key) as folder from unregistered_objects
      where reason = 'no_table' and s3_key >= work.prefix and s3_key > work.settled_to and s3_key <= last
    ) as f where table_of(folder) is not null
  ), object as (
    delete from unregistered_objects
    where reason = 'no_table' and s3_key >= work.prefix and s3_key > work.settled_to and s3_key <= last
      and folder_of(s3_key) in (select folder from folder)
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
  if found.keys is not null then
    perform register_objects(
      found.folders, found.numbers,
      found.keys, found.modified, found.sizes, found.etags, found.versions, found.hold_nul
    );
    picked_up := cardinality(found.keys);
  end if;
  update unsettled_prefixes set settled_to = last where prefix = work.prefix;
end
$$;

comment on function settle_objects is
  'Takes one step of giving objects to the tables that they belong to after tables changed. Call it until is_settled. picked_up: objects that became loads. moved: loads that went to another table. set_aside: loads that no table takes any more.';
