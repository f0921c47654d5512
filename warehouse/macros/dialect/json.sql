{#
  Semi-structured values: JSON in DuckDB, VARIANT in Snowflake, SUPER in Redshift. A path is a list of names, because a name of
  Google Analytics can contain a dot.
#}

{# The value as text. Null if it is missing or null. #}
{% macro json_string(value, path) %}{{ return(adapter.dispatch('json_string')(value, path)) }}{% endmacro %}

{% macro default__json_string(value, path) -%}
json_extract_string({{ value }}, '$.{% for name in path %}"{{ name }}"{{ '.' if not loop.last }}{% endfor %}')
{%- endmacro %}

{% macro snowflake__json_string(value, path) -%}
{{ value }}{% for name in path %}['{{ name }}']{% endfor %}::varchar
{%- endmacro %}

{# A cast to text gives the text of a string, and no other value. #}
{% macro redshift__json_string(value, path) -%}
{%- set found = redshift__json_value(value, path) -%}
case when {{ found }} is null then null else case json_typeof({{ found }}) when 'string' then cast({{ found }} as {{ text_type() }}) when 'null' then null else json_serialize({{ found }}) end end
{%- endmacro %}

{# The same, and null if it is empty. #}
{% macro json_text(value, path) -%}nullif({{ json_string(value, path) }}, ''){%- endmacro %}

{# The value as it is. #}
{% macro json_value(value, path) %}{{ return(adapter.dispatch('json_value')(value, path)) }}{% endmacro %}

{% macro default__json_value(value, path) -%}
json_extract({{ value }}, '$.{% for name in path %}"{{ name }}"{{ '.' if not loop.last }}{% endfor %}')
{%- endmacro %}

{% macro snowflake__json_value(value, path) -%}
{{ value }}{% for name in path %}['{{ name }}']{% endfor %}
{%- endmacro %}

{% macro redshift__json_value(value, path) -%}
{{ value }}{% for name in path %}."{{ name }}"{% endfor %}
{%- endmacro %}

{# Joins the elements of an array, a row each. `element(alias)` is one. #}
{% macro unnest(value, alias) %}{{ return(adapter.dispatch('unnest')(value, alias)) }}{% endmacro %}

{% macro default__unnest(value, alias) -%}
cross join lateral (select unnest(cast({{ value }} as json[])) as value) as {{ alias }}
{%- endmacro %}

{% macro snowflake__unnest(value, alias) -%}
cross join lateral flatten(input => {{ value }}) as {{ alias }}
{%- endmacro %}

{% macro redshift__unnest(value, alias) -%}
, {{ value }} as {{ alias }}
{%- endmacro %}

{% macro element(alias) %}{{ return(adapter.dispatch('element')(alias)) }}{% endmacro %}
{% macro default__element(alias) -%}{{ alias }}.value{%- endmacro %}
{% macro redshift__element(alias) -%}{{ alias }}{%- endmacro %}

{# Text of JSON as a value, for unit tests. #}
{% macro json_literal(text) %}{{ return(adapter.dispatch('json_literal')(text)) }}{% endmacro %}
{% macro default__json_literal(text) -%}cast('{{ text }}' as json){%- endmacro %}
{% macro snowflake__json_literal(text) -%}parse_json('{{ text }}'){%- endmacro %}
{% macro redshift__json_literal(text) -%}json_parse('{{ text }}'){%- endmacro %}

{# The value as JSON. #}
{% macro json_serialized(value) %}{{ return(adapter.dispatch('json_serialized')(value)) }}{% endmacro %}
{% macro default__json_serialized(value) -%}cast({{ value }} as varchar){%- endmacro %}
{% macro snowflake__json_serialized(value) -%}to_json({{ value }}){%- endmacro %}
{% macro redshift__json_serialized(value) -%}json_serialize({{ value }}){%- endmacro %}
