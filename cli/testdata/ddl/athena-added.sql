-- Made by: landfall ddl athena --added order
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

ALTER TABLE `events` ADD COLUMNS (
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
);
