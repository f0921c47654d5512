{# Hits of files that no run has taken yet. What counts as new is asked when the view is read, so it grows without a run. #}
{%- set new -%}
(
      select
        collect.data,
        cast(null as timestamp) as loaded_at
      from {{ source('raw', 'collect') }} as collect
      left join {{ ref('files') }} as files on files.source_name = 'collect' and files.file = collect._file
      where files.file is null
    )
{%- endset -%}
select *
from ({{ select_staged_hits(new, ref('stg_hits')) }}) as staged
where rejected_for is null
