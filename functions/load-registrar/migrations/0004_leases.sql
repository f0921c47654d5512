-- Leases that fence. A claim gives a lease with a number that rises with each claim of the load. Whoever names the current lease
-- can take the load's next step or renew the lease; a lease that ran out, or that another claim has replaced, changes nothing.

create function is_leased(status cubic_load_status) returns boolean
language sql immutable strict
return status in ('ingesting', 'archiving', 'erroring');

comment on function is_leased is 'Whether a load of this status is being worked on by a job, which holds a lease.';

alter table cubic_tables
  add column max_attempts integer not null default 5
    constraint cubic_tables_max_attempts check (max_attempts between 1 and 1000);

alter table cubic_loads
  add column lease bigint not null default 0,
  add column attempts integer not null default 0,
  add column by_lease bigint;

alter table cubic_load_transitions add column lease bigint;

-- Loads that were set to such a status without a lease can be claimed at once.
alter table cubic_loads drop constraint cubic_loads_lease;
alter table cubic_loads disable trigger cubic_loads_transition;
update cubic_loads set leased_by = coalesce(leased_by, 'nobody'), leased_until = coalesce(leased_until, now())
where is_leased(status) and (leased_by is null or leased_until is null);
alter table cubic_loads enable trigger cubic_loads_transition;
alter table cubic_loads add constraint cubic_loads_lease
  check (case when is_leased(status) then leased_by is not null and leased_until is not null
    else leased_by is null and leased_until is null end);

comment on column cubic_tables.max_attempts is
  'How often a load is claimed to be ingested before it becomes ready_for_erroring with the reason attempts_exhausted.';
comment on column cubic_loads.lease is 'Number of the current lease, or of the last one. It rises with each claim. 0: never claimed.';
comment on column cubic_loads.attempts is
  'How often the load was claimed to be ingested, without the claims that were given back, since it was registered or set to ready by hand.';
comment on column cubic_loads.by_lease is
  'Only for updates: the lease by which the step or the renewal is made. Always null in the table.';
comment on column cubic_load_transitions.lease is
  'The lease by which the step was made, or that a claim gave. Null: a step outside of any lease.';

-- What jobs claim in all tables, the oldest object first.
create index cubic_loads_to_ingest on cubic_loads (s3_modified, id) where status in ('ready', 'ingesting');
create index cubic_loads_to_archive on cubic_loads (s3_modified, id) where status in ('ready_for_archiving', 'archiving');
create index cubic_loads_to_error on cubic_loads (s3_modified, id) where status in ('ready_for_erroring', 'erroring');

create or replace function legal_load_statuses(status cubic_load_status) returns cubic_load_status[]
language sql immutable
return case status
  when 'ready' then array['ingesting', 'ready_for_erroring']
  when 'ingesting' then array['ready', 'ready_for_archiving', 'ready_for_erroring']
  when 'ready_for_archiving' then array['archiving']
  when 'archiving' then array['ready_for_archiving', 'archived']
  when 'ready_for_erroring' then array['ready', 'erroring']
  when 'erroring' then array['ready_for_erroring', 'errored']
  else array[]::text[]
end::cubic_load_status[];

-- Refuses a change of a load that is being worked on, unless it is made by the current lease.
create function check_lease(held cubic_loads, by_lease bigint) returns void
language plpgsql as $$
declare
  held_until text := to_char(held.leased_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
  has_expired boolean := held.leased_until <= clock_timestamp();
  revokes boolean := coalesce(current_setting('landfall.revoke', true), '') = 'on';
begin
  if by_lease <> held.lease then
    raise exception 'lease % of load % is not its current one, which is % of %', by_lease, held.id, held.lease, held.leased_by
      using errcode = 'check_violation', constraint = 'cubic_loads_fence';
  elsif by_lease is not null and has_expired then
    raise exception 'lease % of load % ran out at %', by_lease, held.id, held_until
      using errcode = 'check_violation', constraint = 'cubic_loads_fence';
  elsif by_lease is null and not has_expired and not revokes then
    raise exception 'load % is % under lease % of % until %', held.id, held.status, held.lease, held.leased_by, held_until
      using errcode = 'check_violation', constraint = 'cubic_loads_fence';
  end if;
end
$$;

comment on function check_lease is
  'Raises an error unless a change of a load is made by its current lease, or, without naming one, after that has run out. The setting landfall.revoke = on allows the latter before.';

create or replace function check_load_transition() returns trigger
language plpgsql as $$
declare
  by_lease bigint := new.by_lease;
  is_step boolean := new.status <> old.status;
  is_claim boolean := is_leased(new.status) and by_lease is null;
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
  new.attempts := old.attempts;
  if not is_step and by_lease is null
     and (new.leased_by, new.leased_until) is not distinct from (old.leased_by, old.leased_until) then
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
  end if;
  if is_leased(new.status) and (new.leased_by is null or new.leased_until is null) then
    raise exception 'load % can be % only under a lease: a claim sets leased_by and leased_until', old.id, new.status
      using errcode = 'check_violation', constraint = 'cubic_loads_fence';
  end if;
  if not is_step and by_lease is not null then
    return new;
  end if;
  if is_claim or is_leased(old.status) and by_lease is null then
    new.lease := old.lease + 1;
  end if;
  if is_claim and new.status = 'ingesting' then
    new.attempts := old.attempts + 1;
  elsif new.status = 'ready' then
    new.attempts := case when by_lease is null then 0 else old.attempts - 1 end;
  end if;
  if new.status in ('ready', 'ingesting', 'ready_for_archiving') then
    new.status_reason := null;
  end if;
  if not is_leased(new.status) then
    new.leased_by := null;
    new.leased_until := null;
  end if;
  insert into cubic_load_transitions (load_id, from_status, to_status, by, lease, reason)
  values (
    new.id, old.status, new.status,
    coalesce(nullif(current_setting('landfall.by', true), ''), session_user),
    case when is_claim then new.lease else by_lease end,
    case when is_step then reason else format('the lease of %s ran out or was revoked', old.leased_by) end
  );
  return new;
end
$$;
