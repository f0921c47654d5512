{#
  Tables of other databases, from files of their changes. `name` is that of a table in the variable `cdc` of dbt_project.yml.

  cdc_changes   `*_cdc`       every change, as it came
  cdc_state     `*_state`     the last change of each key, also of those that were deleted
  cdc_latest    `*_latest`    the rows that the table has now
  cdc_timeline  `*_timeline`  every change of a key, and until when it held
  cdc_history   `*_history`   every version of a row that the table has had (type 2)

  What counts is when a change was committed, never when its file came. An operation is I, U, D, or T, which is a truncate and has
  the key ''. Changes have the order of `committed_at`, `change_seq`, `phase`, and their place in the files.
#}
{% macro cdc_order(direction='asc') -%}
committed_at {{ direction }}, change_seq {{ direction }}, phase {{ direction }}, file {{ direction }}, row_in_file {{ direction }}
{%- endmacro %}

{% macro _cdc_columns() %}
{{ return(['cdc_key', 'op', 'committed_at', 'change_seq', 'phase', 'data', 'file', 'row_in_file', 'loaded_at']) }}
{% endmacro %}

{# The length of each value before it, so that keys of several columns cannot be mistaken for each other. #}
{% macro _cdc_key(table, before='') -%}
{%- for column in table.key -%}
{%- set text = json_string('data', [before ~ column]) -%}
cast(length({{ text }}) as {{ text_type() }}) || ':' || {{ text }}{{ " || " if not loop.last }}
{%- endfor -%}
{%- endmacro %}

{% macro cdc_changes(name) %}
{%- set table = var('cdc')[name] -%}
with new_rows as (
  select changes.data, changes._file as file, changes._row as row_in_file, files.loaded_at
  from {{ source('raw', 'changes') }} as changes
  inner join {{ ref('files') }} as files on files.source_name = 'changes' and files.file = changes._file
  where (
    {%- for folder in table.files %}left(files.file, {{ folder | length }}) = '{{ folder }}'{{ ' or ' if not loop.last }}{% endfor -%}
  )
  {%- if is_incremental() %} and files.loaded_at > {{ watermark(this) }}{% endif %}
),
{{ _cdc_dms(table) if table.source == 'dms' else _cdc_qlik(table) }}
select {{ _cdc_columns() | join(', ') }} from changes
{% endmacro %}

{#
  DMS with `IncludeOpForFullLoad` and `TimestampColumnName=committed_at`; with the header AR_H_CHANGE_SEQ as `change_seq` if it is
  mapped, which orders changes of one transaction in several files. With before-images of the key (`BI_…`), a change of
  the key also deletes the old one. A full load has files that are named so, and an empty `change_seq`, by which it is known when
  load-ingester has given its files other names.

  A row of a full load has the time at which it was moved, and may be older than changes that were committed before that. It comes
  before all changes: those that it has already are made a second time, which changes nothing.
#}
{% macro _cdc_dms(table) -%}
read as (
  select
    coalesce({{ json_text('data', ['Op']) }}, 'I') as op,
    case
      when file like '%/LOAD%.parquet' or {{ json_string('data', ['change_seq']) }} = '' then cast('1970-01-01' as timestamp)
      else {{ try_cast_text(json_text('data', ['committed_at']), 'timestamp') }}
    end as committed_at,
    coalesce({{ json_text('data', ['change_seq']) }}, '') as change_seq,
    {{ _cdc_key(table) }} as new_key,
    {{ _cdc_key(table, 'BI_') }} as old_key,
    data, file, row_in_file, loaded_at
  from new_rows
),
changes as (
  select
    case when op = 'T' then '' else new_key end as cdc_key,
    op, committed_at, change_seq, 1 as phase, data, file, row_in_file, loaded_at
  from read
  union all
  select old_key as cdc_key, 'D' as op, committed_at, change_seq, 0 as phase, data, file, row_in_file, loaded_at
  from read
  where op = 'U' and old_key <> new_key
)
{%- endmacro %}

{#
  Qlik Replicate, as load-ingester wrote it. A row of a full load was committed when its snapshot was taken, which is in the key of its
  file, and a snapshot begins with an empty table. The row before a change (B) deletes its key, and the row after it (U) brings it
  back, under another key if that changed.
#}
{% macro _cdc_qlik(table) -%}
read as (
  select
    {{ json_text('data', ['header__change_oper']) }} as op,
    {{ try_cast_text(json_text('data', ['header__timestamp']), 'timestamp') }} as changed_at,
    {{ json_text('data', ['header__change_seq']) }} as change_seq,
    {{ _time_of_snapshot("split_part(split_part(file, '/snapshot=', 2), '/', 1)") }} as snapshot_at,
    {{ _cdc_key(table) }} as cdc_key,
    data, file, row_in_file, loaded_at
  from new_rows
),
changes as (
  select
    cdc_key,
    case op when 'B' then 'D' else coalesce(op, 'I') end as op,
    case when op is null then snapshot_at else changed_at end as committed_at,
    coalesce(change_seq, '') as change_seq,
    1 as phase, data, file, row_in_file, loaded_at
  from read
  union all
  select '' as cdc_key, 'T' as op, snapshot_at as committed_at, '' as change_seq, 0 as phase, data, file, row_in_file, loaded_at
  from (select read.*, row_number() over (partition by file order by row_in_file) as position from read where op is null) as loaded
  where position = 1
)
{%- endmacro %}

{# 20260120T101500Z #}
{% macro _time_of_snapshot(text) -%}
{{ utc_of_text("substring(" ~ text ~ ", 1, 4) || '-' || substring(" ~ text ~ ", 5, 2) || '-' || substring(" ~ text ~ ", 7, 5) || ':' || substring(" ~ text ~ ", 12, 2) || ':' || substring(" ~ text ~ ", 14, 3)") }}
{%- endmacro %}

{% macro cdc_state(name) %}
{%- set table = var('cdc')[name] -%}
{%- set changes = ref(name ~ '_cdc') -%}
with candidates as (
  select {{ _cdc_columns() | join(', ') }} from {{ changes }}
  {%- if is_incremental() %}
  where loaded_at > {{ watermark(this) }}
  union all
  select {{ _cdc_columns() | join(', ') }} from {{ this }}
  where cdc_key in (select cdc_key from {{ changes }} where loaded_at > {{ watermark(this) }})
  {%- endif %}
),
last_changes as (
  select *
  from candidates
  qualify row_number() over (partition by cdc_key order by {{ cdc_order('desc') }}) = 1
)
select
  {{ _cdc_columns() | join(', ') }},
  {{ _cdc_typed(table) }}
from last_changes
{% endmacro %}

{# The columns of the table. Those of which the variable does not know are in `data`. #}
{% macro _cdc_typed(table) -%}
{%- for column, type in table.columns.items() -%}
{%- set text = json_string('data', [column]) -%}
{{ text if type.startswith('varchar') else try_cast_text(text, type) }} as {{ column | lower }}{{ ",\n  " if not loop.last }}
{%- endfor -%}
{%- endmacro %}

{% macro cdc_latest(name) %}
{%- set table = var('cdc')[name] -%}
select
  {% for column in table.columns -%}state.{{ column | lower }}, {% endfor %}
  state.data, state.committed_at, state.loaded_at
from {{ ref(name ~ '_state') }} as state
left join {{ ref(name ~ '_state') }} as emptied on emptied.op = 'T'
where state.op in ('I', 'U')
  and (
    emptied.committed_at is null
    or state.committed_at > emptied.committed_at
    or (state.committed_at = emptied.committed_at and state.change_seq > emptied.change_seq)
    or (state.committed_at = emptied.committed_at and state.change_seq = emptied.change_seq and state.phase > emptied.phase)
  )
{% endmacro %}

{# With every change of the keys of which there is a new one, or of all keys if there is a new truncate. #}
{% macro cdc_timeline(name) %}
{%- set table = var('cdc')[name] -%}
{%- set changes = ref(name ~ '_cdc') -%}
with affected as (
  select distinct cdc_key
  from {{ changes }}
  where cdc_key <> ''
  {%- if is_incremental() %}
    and (
      cdc_key in (select cdc_key from {{ changes }} where loaded_at > {{ watermark(this) }})
      or (select count(*) from {{ changes }} where op = 'T' and loaded_at > {{ watermark(this) }}) > 0
    )
  {%- endif %}
),
events as (
  select {{ _cdc_columns() | join(', ') }}
  from {{ changes }}
  where cdc_key in (select cdc_key from affected)
  union all
  select
    affected.cdc_key, emptied.op, emptied.committed_at, emptied.change_seq, emptied.phase, emptied.data, emptied.file,
    emptied.row_in_file, emptied.loaded_at
  from affected
  cross join (select * from {{ changes }} where op = 'T') as emptied
),
{#- A change that came twice, in files of other names. #}
once as (
  select *
  from events
  qualify row_number() over (partition by cdc_key, op, committed_at, change_seq, phase, {{ json_serialized('data') }} order by file, row_in_file) = 1
)
select
  {{ _cdc_columns() | join(', ') }},
  lead(committed_at) over (partition by cdc_key order by {{ cdc_order() }}) as valid_to,
  {{ _cdc_typed(table) }}
from once
{% endmacro %}

{# What was replaced in the same moment was never seen. #}
{% macro cdc_history(name) %}
{%- set table = var('cdc')[name] -%}
select
  cdc_key, committed_at as valid_from, valid_to, valid_to is null as is_current,
  {% for column in table.columns -%}{{ column | lower }}, {% endfor %}
  data, loaded_at
from {{ ref(name ~ '_timeline') }}
where op in ('I', 'U') and (valid_to is null or valid_to > committed_at)
{% endmacro %}
