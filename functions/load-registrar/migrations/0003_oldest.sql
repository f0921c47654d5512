-- The oldest load of each status, without reading all loads: for the alarm on loads that nobody finishes.
create index cubic_loads_by_status on cubic_loads (status, inserted_at);
