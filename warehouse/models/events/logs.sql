{{ config(unique_key='event_id') }}
{% if is_incremental() %}
{%- set new -%}(select * from {{ ref('events') }} where loaded_at > {{ watermark(this) }}) as new_hits{%- endset -%}
{{ select_logs(ref('events'), new, this) }}
{% else %}
{{ select_logs(ref('events'), none, none) }}
{% endif %}
