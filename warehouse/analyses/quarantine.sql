{# What the next run would put into quarantine. #}
{% for name in var('dq') -%}
{{ dq_quarantine_of(name) }}
{{ 'union all' if not loop.last }}
{% endfor %}
