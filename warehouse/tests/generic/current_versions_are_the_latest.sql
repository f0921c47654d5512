{# The versions without an end are the rows that the table has now. #}
{% test current_versions_are_the_latest(model, history) %}
with both_sides as (
  select {{ json_serialized('data') }} as data, 1 as is_latest, 0 as is_current from {{ model }}
  union all
  select {{ json_serialized('data') }} as data, 0 as is_latest, 1 as is_current from {{ history }} where is_current
)
select data
from both_sides
group by data
having sum(is_latest) <> sum(is_current)
{% endtest %}
