-- Made by: landfall ddl athena --bucket acme-lake --schema lake --first-day 2026/11/20
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

-- Only the folders of days are read, so files of the layout by-type below the same location are not
-- in this table.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`events` (
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
  >,
  `order` struct<
    `order`: string,
    `timestamp`: timestamp,
    `table`: array<struct<
      `select`: string,
      `from`: double,
      type: string
    >>,
    unitPrice: string
  >,
  `group` struct<
    `_empty`: boolean
  >,
  `user` struct<
    id: string
  >,
  `day` struct<
    name: string
  >
)
PARTITIONED BY (`_day` string)
STORED AS PARQUET
LOCATION 's3://acme-lake/events/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection._day.type' = 'date',
  'projection._day.format' = 'yyyy/MM/dd',
  'projection._day.range' = '2026/11/20,NOW+1DAYS',
  'projection._day.interval' = '1',
  'projection._day.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://acme-lake/events/${_day}/'
);
