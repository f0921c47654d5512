-- External tables over the files, for questions without a warehouse. Athena runs one statement at a time. The table of events is that of
-- `landfall ddl athena --schema lake`. Nothing is loaded: a file is there as soon as it is in S3, and in "$path" is its place.
-- A partition is a folder of an hour, computed from the properties: write where hour >= '2026/11/20/00'. Each can be run again.

CREATE DATABASE IF NOT EXISTS lake;

-- A line is a column, since hits have whatever parameters their clients send: json_extract_scalar(data, '$.context.client_id').
CREATE EXTERNAL TABLE IF NOT EXISTS lake.collect (
  data string
)
PARTITIONED BY (hour string)
ROW FORMAT DELIMITED FIELDS TERMINATED BY '\001' LINES TERMINATED BY '\n'
STORED AS TEXTFILE
LOCATION 's3://YOUR_LAKE_BUCKET/collect/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.hour.type' = 'date',
  'projection.hour.format' = 'yyyy/MM/dd/HH',
  'projection.hour.range' = '2026/01/01/00,NOW+1HOURS',
  'projection.hour.interval' = '1',
  'projection.hour.interval.unit' = 'HOURS',
  'storage.location.template' = 's3://YOUR_LAKE_BUCKET/collect/${hour}/'
);

-- Changes of a replicated table: the example of dbt_project.yml. Parquet is read by name, so a new column of the source needs a new
-- statement, and no file. Files of a full load are beside the folders of hours, and so not in this table.
CREATE EXTERNAL TABLE IF NOT EXISTS lake.customers_changes (
  op string,
  committed_at string,
  change_seq string,
  customer_id bigint,
  bi_customer_id bigint,
  name string,
  email string,
  balance decimal(18, 2),
  segment string
)
PARTITIONED BY (hour string)
STORED AS PARQUET
LOCATION 's3://YOUR_LAKE_BUCKET/cdc/shop/customers/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.hour.type' = 'date',
  'projection.hour.format' = 'yyyy/MM/dd/HH',
  'projection.hour.range' = '2026/01/01/00,NOW+1HOURS',
  'projection.hour.interval' = '1',
  'projection.hour.interval.unit' = 'HOURS',
  'storage.location.template' = 's3://YOUR_LAKE_BUCKET/cdc/shop/customers/${hour}/'
);
