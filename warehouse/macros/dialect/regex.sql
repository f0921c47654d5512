{# Whether a text has a place that fits the pattern, which is a literal. #}
{% macro regex_found(text, pattern) %}{{ return(adapter.dispatch('regex_found')(text, pattern)) }}{% endmacro %}
{% macro default__regex_found(text, pattern) -%}regexp_matches({{ text }}, {{ pattern }}){%- endmacro %}
{% macro snowflake__regex_found(text, pattern) -%}(regexp_instr({{ text }}, {{ pattern }}) > 0){%- endmacro %}
{% macro redshift__regex_found(text, pattern) -%}({{ text }} ~ {{ pattern }}){%- endmacro %}
