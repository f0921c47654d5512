{{ config(unique_key='event_id') }}
{# Lines of the files that came since, in the columns of `select_hits`. #}
{%- set new -%}
(
      select
        collect.data,
        files.loaded_at
      from {{ source('raw', 'collect') }} as collect
      inner join {{ ref('files') }} as files on files.source_name = 'collect' and files.file = collect._file
      {%- if is_incremental() %}
      where files.loaded_at > {{ watermark(this) }}
      {%- endif %}
    )
{%- endset -%}
{{ select_staged_hits(new, this if is_incremental() else none) }}
