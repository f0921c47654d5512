-- Loads that are claimed for a queue, and snapshots whose object was claimed before it was known that it starts one.

-- Queued loads --------------------------------------------------------------------------------------------------------

-- A load may wait for hours between its claim and the job that works on it. Only the beginning of work is an attempt, and it gives
-- a lease of its own, so that of two deliveries of a message one gets the load.
alter table cubic_loads
  add column is_queued boolean not null default false,
  add constraint cubic_loads_queued check (not is_queued or is_leased(status));

comment on column cubic_loads.is_queued is
  'Whether the load was claimed for a queue and no job has begun to work on it. Beginning gives another lease and counts as an attempt.';
comment on column cubic_loads.attempts is
  'How often a job began to ingest the load, without those that gave it back, since it was registered or set to ready by hand.';
comment on column cubic_tables.max_attempts is
  'How often a job begins to ingest a load before it becomes ready_for_erroring with the reason attempts_exhausted.';

create function place_for_job(load cubic_loads) returns text
language sql stable
begin atomic
  select coalesce(
    (select place from cubic_load_places where load_id = load.id and lease = load.lease and is_leased(load.status)),
    place_of(load)
  );
end;

comment on function place_for_job is
  'The folder for the files of a load: where it belonged when the job that has it began, or where it belongs now.';

create or replace function check_load_transition() returns trigger
language plpgsql as $$
declare
  by_lease bigint := new.by_lease;
  is_step boolean := new.status <> old.status;
  is_claim boolean := is_leased(new.status) and by_lease is null;
  begins boolean := by_lease is not null and not is_step and old.is_queued and not new.is_queued;
  reason text := coalesce(nullif(current_setting('landfall.reason', true), ''), new.status_reason, old.status_reason);
begin
  if (new.s3_key, new.s3_modified, new.s3_size, new.s3_etag) is distinct from
     (old.s3_key, old.s3_modified, old.s3_size, old.s3_etag) then
    raise exception 'load % is the object % as it was registered; another object is another load', old.id, old.s3_key
      using errcode = 'check_violation', constraint = 'cubic_loads_same_object';
  end if;
  new.updated_at := now();
  new.by_lease := null;
  new.lease := old.lease;
  if is_claim then
    -- Whoever claims without knowing of queues begins to work.
    new.is_queued := coalesce(current_setting('landfall.queued', true), '') = 'on';
  end if;
  new.attempts := old.attempts;
  if not is_step and by_lease is null
     and (new.leased_by, new.leased_until) is not distinct from (old.leased_by, old.leased_until) then
    new.is_queued := old.is_queued;
    return new;
  end if;
  if is_leased(old.status) then
    perform check_lease(old, by_lease);
  elsif by_lease is not null then
    raise exception 'load % is %, so lease % of it has ended', old.id, old.status, by_lease
      using errcode = 'check_violation', constraint = 'cubic_loads_fence';
  end if;
  if is_step and new.status <> all (legal_load_statuses(old.status)) then
    raise exception 'load % cannot go from % to %; from % it can go to %', old.id, old.status, new.status, old.status,
      coalesce(nullif(array_to_string(legal_load_statuses(old.status), ' or '), ''), 'no other status')
      using errcode = 'check_violation', constraint = 'cubic_loads_transition';
  elsif is_step and new.status = 'ready' and new.s3_size = 0 then
    raise exception 'load % cannot go from % to ready: its object is empty', old.id, old.status
      using errcode = 'check_violation', constraint = 'cubic_loads_transition';
  elsif is_step and new.status = 'ready'
    and exists (select from cubic_table_ods_snapshots where table_id = new.table_id)
    and not exists (select from cubic_load_ods_snapshots where load_id = new.id) then
    raise exception 'load % cannot go from % to ready: it belongs to no snapshot yet', old.id, old.status
      using errcode = 'check_violation', constraint = 'cubic_loads_transition';
  elsif is_step and by_lease is not null and old.is_queued
    and (old.status, new.status) in (('ingesting', 'ready_for_archiving'), ('archiving', 'archived'), ('erroring', 'errored')) then
    raise exception 'load % waits in a queue; a job has to begin with it, which gives another lease than %', old.id, by_lease
      using errcode = 'check_violation', constraint = 'cubic_loads_fence';
  end if;
  if is_leased(new.status) and (new.leased_by is null or new.leased_until is null) then
    raise exception 'load % can be % only under a lease: a claim sets leased_by and leased_until', old.id, new.status
      using errcode = 'check_violation', constraint = 'cubic_loads_fence';
  end if;
  if not is_step and by_lease is not null and not begins then
    new.is_queued := old.is_queued;
    return new;
  end if;
  if is_claim or begins or is_leased(old.status) and by_lease is null then
    new.lease := old.lease + 1;
  end if;
  if new.status = 'ingesting' and not new.is_queued then
    new.attempts := old.attempts + 1;
  elsif new.status = 'ready' then
    new.attempts := case when by_lease is null then 0 when old.is_queued then old.attempts else old.attempts - 1 end;
  end if;
  if new.status in ('ready', 'ingesting', 'ready_for_archiving') then
    new.status_reason := null;
  end if;
  if not is_leased(new.status) then
    new.leased_by := null;
    new.leased_until := null;
    new.is_queued := false;
  end if;
  insert into cubic_load_transitions (load_id, from_status, to_status, by, lease, reason)
  values (
    new.id, old.status, new.status,
    coalesce(nullif(current_setting('landfall.by', true), ''), session_user),
    case when is_claim or begins then new.lease else by_lease end,
    case when is_step then reason when begins then 'begun'
      else format('the lease of %s ran out or was revoked', old.leased_by) end
  );
  return new;
end
$$;

create or replace function keep_places() returns trigger
language plpgsql as $$
begin
  if new.status in ('ingesting', 'archiving') and new.lease <> old.lease and not new.is_queued then
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

-- Snapshots of claimed objects ----------------------------------------------------------------------------------------

create function start_snapshots_of(first_key text, last_key text) returns void
language plpgsql as $$
declare
  started record;
begin
  for started in
    insert into cubic_ods_snapshot_history (table_id, snapshot, snapshot_s3_key)
    select distinct s.table_id, l.s3_modified, l.s3_key
    from cubic_table_ods_snapshots as s
    join cubic_loads as l on l.s3_key = s.snapshot_s3_key
    where s.snapshot_s3_key between first_key and last_key and table_of(folder_of(s.snapshot_s3_key)) = s.table_id
    order by s.table_id, l.s3_modified
    on conflict do nothing
    returning table_id, snapshot
  loop
    perform cover_by_snapshot(started.table_id, started.snapshot);
  end loop;
end
$$;

comment on function start_snapshots_of is
  'Starts the snapshots of objects that became loads before a table called them its snapshots, whether a job has claimed them or not. The caller has locked the rows of the tables.';

create or replace function settle_loads(ids bigint[], out moved bigint, out set_aside bigint)
language plpgsql as $$
declare
  tableless bigint[];
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

create or replace function settle_objects(
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
    perform start_snapshots_of(greatest(work.prefix, work.settled_to), last);
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
