-- Feeds of DMAP and their datasets (Cubic ADR 6): how far each feed has been fetched. Nothing that earlier versions of
-- load-registrar use is changed.

create table cubic_dmap_feeds (
  id bigint generated always as identity primary key,
  name text collate "C" not null
    constraint cubic_dmap_feeds_name_unique unique
    constraint cubic_dmap_feeds_name_form check (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$'),
  relative_url text not null
    constraint cubic_dmap_feeds_url_unique unique
    constraint cubic_dmap_feeds_url_form check (relative_url ~ '^/([^/]|$)'),
  api_key text,
  is_active boolean not null default true,
  last_updated timestamptz,
  asked_at timestamptz,
  answered_at timestamptz,
  inserted_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

comment on table cubic_dmap_feeds is 'Feeds of DMAP, which dmap-fetch asks for datasets.';
comment on column cubic_dmap_feeds.id is 'Identity.';
comment on column cubic_dmap_feeds.name is 'Name in its declaration.';
comment on column cubic_dmap_feeds.relative_url is 'Its URL, behind the base URL of DMAP.';
comment on column cubic_dmap_feeds.api_key is 'Name of the API key in the secret. Null if the secret has only one.';
comment on column cubic_dmap_feeds.is_active is 'Whether it is fetched.';
comment on column cubic_dmap_feeds.last_updated is
  'The last_updated of the newest dataset of the answers that were fetched as a whole. The next question is for what is newer. Null: for everything.';
comment on column cubic_dmap_feeds.asked_at is 'When its datasets were last begun to be fetched. The feed that was asked longest ago is asked first.';
comment on column cubic_dmap_feeds.answered_at is 'When an answer had last been fetched as a whole.';
comment on column cubic_dmap_feeds.inserted_at is 'When the row was inserted.';
comment on column cubic_dmap_feeds.updated_at is 'When the declaration was last changed.';

create table cubic_dmap_datasets (
  id bigint generated always as identity primary key,
  feed_id bigint not null references cubic_dmap_feeds,
  type text collate "C" not null,
  identifier text collate "C" not null,
  start_date date,
  end_date date,
  last_updated timestamptz not null,
  url text not null,
  s3_key text collate "C" not null,
  s3_etag text,
  s3_size bigint constraint cubic_dmap_datasets_size_not_negative check (s3_size >= 0),
  sha256 text constraint cubic_dmap_datasets_sha256_form check (sha256 ~ '^[0-9a-f]{64}$'),
  attempts integer not null default 0,
  begun_at timestamptz not null default now(),
  fetched_at timestamptz,
  constraint cubic_dmap_datasets_identity unique (type, identifier, last_updated),
  constraint cubic_dmap_datasets_fetched check ((fetched_at is null) = (s3_etag is null))
);

comment on table cubic_dmap_datasets is 'Datasets of DMAP, each version once. Rows without fetched_at are begun: their object may be in the bucket or not.';
comment on column cubic_dmap_datasets.id is 'Identity.';
comment on column cubic_dmap_datasets.feed_id is 'The feed whose answer named it.';
comment on column cubic_dmap_datasets.type is 'What it is: id in the answer.';
comment on column cubic_dmap_datasets.identifier is 'Which one it is: dataset_id in the answer.';
comment on column cubic_dmap_datasets.start_date is 'The first day that it is about.';
comment on column cubic_dmap_datasets.end_date is 'The last day that it is about.';
comment on column cubic_dmap_datasets.last_updated is 'When this version was made, as the answer said.';
comment on column cubic_dmap_datasets.url is 'Where it was downloaded, without the query.';
comment on column cubic_dmap_datasets.s3_key is 'Key of its object.';
comment on column cubic_dmap_datasets.s3_etag is 'ETag of its object, without quotes.';
comment on column cubic_dmap_datasets.s3_size is 'Size of its object in bytes.';
comment on column cubic_dmap_datasets.sha256 is 'SHA-256 of its object. Null if the function died before it could say so.';
comment on column cubic_dmap_datasets.attempts is 'How often it was begun.';
comment on column cubic_dmap_datasets.begun_at is 'When it was begun first.';
comment on column cubic_dmap_datasets.fetched_at is 'When it was recorded that its object is in the bucket.';

create index cubic_dmap_datasets_by_feed on cubic_dmap_datasets (feed_id);

-- A function that dies between storing an object and recording it leaves a version that is only begun. If its object was
-- registered since, it is fetched: the object may have been ingested and may be gone from the bucket. Nothing else writes
-- objects under the key. Clocks may differ by a minute.
create function settle_dmap_dataset(of_type text, of_identifier text) returns void
language sql
as $$
  update cubic_dmap_datasets as d
  set fetched_at = now(), s3_etag = found.s3_etag, s3_size = found.s3_size
  from (select b.id, l.s3_etag, l.s3_size
    from cubic_dmap_datasets as b
    join cubic_loads as l on l.s3_key = b.s3_key and l.s3_modified >= b.begun_at - interval '1 minute'
    where b.type = of_type and b.identifier = of_identifier and b.fetched_at is null
      -- It is not the object of another version, which somebody may have put again.
      and not exists (select from cubic_dmap_datasets as o
        where o.type = of_type and o.identifier = of_identifier and o.s3_etag = l.s3_etag)
    order by l.s3_modified desc, l.id desc limit 1) as found
  where d.id = found.id;
$$;
