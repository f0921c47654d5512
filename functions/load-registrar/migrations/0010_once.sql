-- Objects of kafka-roller are loads once. Their key is made from their contents, so an object that comes under a key that was a load
-- before has the same records, and would be loaded twice. Nothing that earlier versions of load-registrar use is changed.

alter table unregistered_objects drop constraint unregistered_objects_reason;
alter table unregistered_objects add constraint unregistered_objects_reason
  check (reason in ('no_table', 'key_holds_nul', 'not_data', 'known_key'));

comment on column unregistered_objects.reason is
  'no_table: no active table has a prefix of the key. key_holds_nul: the key holds a NUL character, which Postgres cannot store in a text. not_data: the key does not end like a data file. known_key: the table is of kind kafka, and the key was a load before.';
comment on table unregistered_objects is
  'Objects that are no loads. Those with the reason no_table become loads when their table is added or activated.';
comment on column cubic_tables.kind is
  'What writes the objects. It changes how they are registered for two kinds: ods tables have snapshots and a folder of changes, and a key of a kafka table is a load once.';

alter function register_objects rename to register_each;

comment on function register_each is 'Does what register_objects does, for objects whose keys may be loads.';

create function register_objects(
  folders text[], folder_numbers integer[],
  keys text[], modified timestamptz[], sizes bigint[], etags text[], versions text[], hold_nul boolean[],
  out registered bigint, out known bigint, out unregistered bigint, out snapshots bigint, out released bigint,
  out displaced bigint
)
language plpgsql as $$
declare
  folder_tables bigint[];
  once bigint[];
  are_repeated boolean[];
  repeated bigint := 0;
begin
  perform lock_tables_shared();
  select array_agg(t.id order by f.n), array_agg(distinct t.id) filter (where t.kind = 'kafka')
  into folder_tables, once
  from unnest(folders) with ordinality as f (folder, n)
  left join cubic_tables as t on t.id = table_of(f.folder);
  if once is not null then
    -- Of two transactions with another object of the same key each, the second one sees the load of the first.
    perform from cubic_tables where id = any (once) order by id for no key update;
    with object as (
      select n, o.key, o.modified, o.etag, folder_tables[o.folder] = any (once) as is_once,
        first_value(o.modified) over of_key as first_modified, first_value(o.etag) over of_key as first_etag
      from unnest(folder_numbers, keys, modified, etags) with ordinality as o (folder, key, modified, etag, n)
      window of_key as (partition by o.key order by n)
    )
    select array_agg(is_repeated order by n), count(*) filter (where is_repeated) into are_repeated, repeated
    from (
      select n, coalesce(is_once, false) and case
        when exists (select from cubic_loads as l where l.s3_key = o.key)
          then not exists (select from cubic_loads as l
            where l.s3_key = o.key and l.s3_modified = o.modified and l.s3_etag = o.etag)
        else (o.modified, o.etag) <> (first_modified, first_etag) end as is_repeated
      from object as o
    ) as o;
  end if;
  if repeated = 0 then
    select * into registered, known, unregistered, snapshots, released, displaced
    from register_each(folders, folder_numbers, keys, modified, sizes, etags, versions, hold_nul);
    return;
  end if;
  insert into unregistered_objects (reason, s3_key, s3_modified, s3_size, s3_etag, s3_version)
  select 'known_key', o.key, o.modified, o.size, o.etag, o.version
  from unnest(keys, modified, sizes, etags, versions, are_repeated) as o (key, modified, size, etag, version, is_repeated)
  where is_repeated
  on conflict do nothing;
  get diagnostics repeated = row_count;
  select
    array_agg(o.folder order by n), array_agg(o.key order by n), array_agg(o.modified order by n), array_agg(o.size order by n),
    array_agg(o.etag order by n), array_agg(o.version order by n), array_agg(o.nul order by n)
  into folder_numbers, keys, modified, sizes, etags, versions, hold_nul
  from unnest(folder_numbers, keys, modified, sizes, etags, versions, hold_nul, are_repeated) with ordinality
    as o (folder, key, modified, size, etag, version, nul, is_repeated, n)
  where not is_repeated;
  select * into registered, known, unregistered, snapshots, released, displaced
  from register_each(
    folders, coalesce(folder_numbers, '{}'), coalesce(keys, '{}'), coalesce(modified, '{}'), coalesce(sizes, '{}'),
    coalesce(etags, '{}'), coalesce(versions, '{}'), coalesce(hold_nul, '{}')
  );
  unregistered := unregistered + repeated;
end
$$;

comment on function register_objects is
  'Registers objects, given as arrays of the same length, any number of times. folder_numbers: the position in folders of each object''s folder. Give the objects in the order of their keys, so that concurrent calls with the same objects do not deadlock. registered: new loads. known: objects that were loads already. unregistered: objects newly set aside because no active table takes them, or because their key was a load before and their table is of kind kafka. snapshots: snapshots that started. released: loads that were waiting for one of these snapshots. displaced: loads that had been ingested already and belong to one of these snapshots.';
