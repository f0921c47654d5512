{# A value that does not fit the type that the variable `cdc` gives its column is null in the models. #}
{% test values_have_their_type(model, table) %}
select *
from {{ model }}
where {% for column, type in var('cdc')[table].columns.items() -%}
({{ column | lower }} is null and {{ json_string('data', [column]) }} is not null){{ ' or ' if not loop.last }}
{%- endfor %}
{% endtest %}
