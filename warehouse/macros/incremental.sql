{# `assume_incremental` chooses the branch when there is no warehouse to ask. #}
{% macro is_incremental() %}
  {%- if var('assume_incremental') is not none -%}{{ return(var('assume_incremental')) }}{%- endif -%}
  {{ return(dbt.is_incremental()) }}
{% endmacro %}

{# Schemas are called what the models say, without the name of a target before it. #}
{% macro generate_schema_name(custom_schema_name, node) -%}{{ (custom_schema_name or target.schema) | trim }}{%- endmacro %}

{#
  Everything that was in files which the ledger `files` had when this table was filled. There is one clock, that of the ledger: rows
  keep the `loaded_at` of their file from model to model, so a run that failed halfway is made up for by the next one.
#}
{% macro watermark(relation) -%}
(select coalesce(max(loaded_at), cast('1970-01-01' as timestamp)) from {{ relation }})
{%- endmacro %}
