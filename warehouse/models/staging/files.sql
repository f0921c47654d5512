{{ config(incremental_strategy='append') }}
{#
  The ledger of files. A file that is not in it is new, however late it arrives, and one that is in it is never read again.

  A run stamps all files that it finds with the same time, later than that of every run before, also if the clock was set back.
#}
{% set sources = ['events', 'events_backfill', 'collect', 'changes'] %}
with found as (
{% for name in sources %}
  select '{{ name }}' as source_name, _file as file, count(*) as row_count
  from {{ source('raw', name) }}
  group by _file
  {{ 'union all' if not loop.last }}
{% endfor %}
)
select
  found.source_name,
  found.file,
  found.row_count,
  {%- if is_incremental() %}
  greatest(
    cast('{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S.%f") }}' as timestamp),
    (select coalesce({{ dbt.dateadd('millisecond', 1, 'max(loaded_at)') }}, cast('1970-01-01' as timestamp)) from {{ this }})
  ) as loaded_at
  {%- else %}
  cast('{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S.%f") }}' as timestamp) as loaded_at
  {%- endif %}
from found
{%- if is_incremental() %}
left join {{ this }} as known on known.source_name = found.source_name and known.file = found.file
where known.file is null
{%- endif %}
