{%- set new -%}(select {{ (hit_columns() + ['loaded_at']) | join(', ') }} from {{ ref('hits_staged') }}) as new_hits{%- endset -%}
{{ select_logs(ref('events_live'), new, ref('logs')) }}
