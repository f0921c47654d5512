-- Made by: landfall ddl athena --layout by-type
--
-- Replace YOUR_LAKE_BUCKET by the bucket in the output LakeBucketName of the stack, or give
-- --bucket.
--
-- Athena runs one statement at a time. It reads Parquet by name, which is its default, so files of
-- all versions can be in one table.
--
-- A partition is a folder of a day, computed from the properties below: none has to be added, and
-- files of today are there at once. Write days as in where day >= '2026/11/20'. It sees no files of
-- days before the first one in the property that ends with .range: --first-day sets it.
--
-- After an event type got a field, drop its table and create it again with the statement that this
-- command then prints. The files stay, since the table is external.
--
-- Athena reads times in milliseconds; those in the files have microseconds.

CREATE EXTERNAL TABLE IF NOT EXISTS `every_kind` (
  `event_id` string,
  `message_id` string,
  `source` string,
  `type` string,
  `sent_at` timestamp,
  `payload_sha256` binary,
  `attributes` map<string, string>,
  `_raw` binary,
  `every_kind` struct<
    a_bool: boolean,
    an_int32: int,
    an_int64: bigint,
    a_uint32: bigint,
    a_uint64: decimal(20, 0),
    a_float: float,
    a_double: double,
    a_string: string,
    some_bytes: binary,
    a_color: string,
    a_time: timestamp,
    a_duration: bigint,
    a_wrapped_string: string,
    some_json: string,
    `inner`: struct<
      number: int,
      innermost: array<struct<
        blob: binary,
        at: timestamp
      >>
    >,
    nothing: struct<
      `_empty`: boolean
    >,
    choice_number: int,
    choice_inner: struct<
      number: int,
      innermost: array<struct<
        blob: binary,
        at: timestamp
      >>
    >,
    strings: array<string>,
    decimals: array<decimal(20, 0)>,
    times: array<timestamp>,
    inners: array<struct<
      number: int,
      innermost: array<struct<
        blob: binary,
        at: timestamp
      >>
    >>,
    strings_by_string: map<string, string>,
    inners_by_int32: map<int, struct<
      number: int,
      innermost: array<struct<
        blob: binary,
        at: timestamp
      >>
    >>,
    bytes_by_uint64: map<decimal(20, 0), binary>,
    times_by_bool: map<boolean, timestamp>
  >
)
PARTITIONED BY (`day` string)
STORED AS PARQUET
LOCATION 's3://YOUR_LAKE_BUCKET/events/every_kind/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.day.type' = 'date',
  'projection.day.format' = 'yyyy/MM/dd',
  'projection.day.range' = '2026/01/01,NOW+1DAYS',
  'projection.day.interval' = '1',
  'projection.day.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://YOUR_LAKE_BUCKET/events/every_kind/${day}/'
);

CREATE EXTERNAL TABLE IF NOT EXISTS `order` (
  `event_id` string,
  `message_id` string,
  `source` string,
  `type` string,
  `sent_at` timestamp,
  `payload_sha256` binary,
  `attributes` map<string, string>,
  `_raw` binary,
  `order` struct<
    `order`: string,
    `timestamp`: timestamp,
    `table`: array<struct<
      `select`: string,
      `from`: double,
      type: string
    >>,
    unitPrice: string
  >
)
PARTITIONED BY (`day` string)
STORED AS PARQUET
LOCATION 's3://YOUR_LAKE_BUCKET/events/order/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.day.type' = 'date',
  'projection.day.format' = 'yyyy/MM/dd',
  'projection.day.range' = '2026/01/01,NOW+1DAYS',
  'projection.day.interval' = '1',
  'projection.day.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://YOUR_LAKE_BUCKET/events/order/${day}/'
);

CREATE EXTERNAL TABLE IF NOT EXISTS `group` (
  `event_id` string,
  `message_id` string,
  `source` string,
  `type` string,
  `sent_at` timestamp,
  `payload_sha256` binary,
  `attributes` map<string, string>,
  `_raw` binary,
  `group` struct<
    `_empty`: boolean
  >
)
PARTITIONED BY (`day` string)
STORED AS PARQUET
LOCATION 's3://YOUR_LAKE_BUCKET/events/group/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.day.type' = 'date',
  'projection.day.format' = 'yyyy/MM/dd',
  'projection.day.range' = '2026/01/01,NOW+1DAYS',
  'projection.day.interval' = '1',
  'projection.day.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://YOUR_LAKE_BUCKET/events/group/${day}/'
);

CREATE EXTERNAL TABLE IF NOT EXISTS `user` (
  `event_id` string,
  `message_id` string,
  `source` string,
  `type` string,
  `sent_at` timestamp,
  `payload_sha256` binary,
  `attributes` map<string, string>,
  `_raw` binary,
  `user` struct<
    id: string
  >
)
PARTITIONED BY (`day` string)
STORED AS PARQUET
LOCATION 's3://YOUR_LAKE_BUCKET/events/user/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.day.type' = 'date',
  'projection.day.format' = 'yyyy/MM/dd',
  'projection.day.range' = '2026/01/01,NOW+1DAYS',
  'projection.day.interval' = '1',
  'projection.day.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://YOUR_LAKE_BUCKET/events/user/${day}/'
);

CREATE EXTERNAL TABLE IF NOT EXISTS `day` (
  `event_id` string,
  `message_id` string,
  `source` string,
  `type` string,
  `sent_at` timestamp,
  `payload_sha256` binary,
  `attributes` map<string, string>,
  `_raw` binary,
  `day` struct<
    name: string
  >
)
PARTITIONED BY (`_day` string)
STORED AS PARQUET
LOCATION 's3://YOUR_LAKE_BUCKET/events/day/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection._day.type' = 'date',
  'projection._day.format' = 'yyyy/MM/dd',
  'projection._day.range' = '2026/01/01,NOW+1DAYS',
  'projection._day.interval' = '1',
  'projection._day.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://YOUR_LAKE_BUCKET/events/day/${_day}/'
);

CREATE EXTERNAL TABLE IF NOT EXISTS `unregistered` (
  `event_id` string,
  `message_id` string,
  `source` string,
  `type` string,
  `sent_at` timestamp,
  `payload_sha256` binary,
  `attributes` map<string, string>,
  `_raw` binary
)
PARTITIONED BY (`day` string)
STORED AS PARQUET
LOCATION 's3://YOUR_LAKE_BUCKET/events/unregistered/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.day.type' = 'date',
  'projection.day.format' = 'yyyy/MM/dd',
  'projection.day.range' = '2026/01/01,NOW+1DAYS',
  'projection.day.interval' = '1',
  'projection.day.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://YOUR_LAKE_BUCKET/events/unregistered/${day}/'
);
