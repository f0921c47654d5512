{# What adds up: not sessions, which count in every hour in which they have a hit. #}
{% set columns = ['hits', 'new_sessions', 'pageviews', 'product_details', 'add_to_cart', 'transactions', 'items', 'transaction_revenue'] %}
with hours as (
  select {{ dbt.date_trunc('day', 'period_start') }} as period_start{% for column in columns %}, sum({{ column }}) as {{ column }}{% endfor %}
  from {{ ref('overview_1h') }}
  group by 1
)
select days.period_start
from {{ ref('overview_1d') }} as days
full outer join hours on hours.period_start = days.period_start
where days.period_start is null or hours.period_start is null{% for column in columns %} or days.{{ column }} <> hours.{{ column }}{% endfor %}
