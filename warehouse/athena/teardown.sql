-- The tables are external: dropping them removes no file.

DROP TABLE IF EXISTS lake.customers_changes;
DROP TABLE IF EXISTS lake.collect;
DROP TABLE IF EXISTS lake.events;
DROP DATABASE IF EXISTS lake;
