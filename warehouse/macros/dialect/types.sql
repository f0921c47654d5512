{# Text of any length. In Redshift, a varchar or text without a length has 256 bytes. #}
{% macro text_type() %}{{ return(adapter.dispatch('text_type')()) }}{% endmacro %}
{% macro default__text_type() -%}varchar{%- endmacro %}
{% macro redshift__text_type() -%}varchar(65535){%- endmacro %}

{# Text as a number or a time. Null if it is none. #}

{% macro try_cast_text(text, type) %}{{ return(adapter.dispatch('try_cast_text')(text, type)) }}{% endmacro %}
{% macro default__try_cast_text(text, type) -%}try_cast({{ text }} as {{ type }}){%- endmacro %}

{# A point in time as the wall clock of UTC, which is what all tables of this project hold. #}
{% macro utc(time) %}{{ return(adapter.dispatch('utc')(time)) }}{% endmacro %}
{% macro default__utc(time) -%}({{ time }} at time zone 'UTC'){%- endmacro %}
{% macro snowflake__utc(time) -%}cast(convert_timezone('UTC', {{ time }}) as timestamp_ntz){%- endmacro %}
{# The raw tables of Redshift have times without a zone, in UTC. #}
{% macro redshift__utc(time) -%}{{ time }}{%- endmacro %}

{# The same of text such as 2026-11-20T10:00:00Z. #}
{% macro utc_of_text(text) %}{{ return(adapter.dispatch('utc_of_text')(text)) }}{% endmacro %}
{% macro default__utc_of_text(text) -%}(try_cast({{ text }} as timestamptz) at time zone 'UTC'){%- endmacro %}
{% macro snowflake__utc_of_text(text) -%}cast(convert_timezone('UTC', try_cast({{ text }} as timestamp_tz)) as timestamp_ntz){%- endmacro %}
{% macro redshift__utc_of_text(text) -%}(try_cast({{ text }} as timestamptz) at time zone 'UTC'){%- endmacro %}

{# The same of milliseconds since 1970. #}
{% macro utc_of_ms(ms) %}{{ return(adapter.dispatch('utc_of_ms')(ms)) }}{% endmacro %}
{% macro default__utc_of_ms(ms) -%}make_timestamp({{ ms }} * 1000){%- endmacro %}
{% macro snowflake__utc_of_ms(ms) -%}to_timestamp_ntz({{ ms }}, 3){%- endmacro %}
{% macro redshift__utc_of_ms(ms) -%}dateadd(millisecond, {{ ms }}, cast('1970-01-01' as timestamp)){%- endmacro %}

{% macro sha256(text) %}{{ return(adapter.dispatch('sha256')(text)) }}{% endmacro %}
{% macro default__sha256(text) -%}sha256({{ text }}){%- endmacro %}
{% macro snowflake__sha256(text) -%}sha2({{ text }}, 256){%- endmacro %}
{% macro redshift__sha256(text) -%}sha2({{ text }}, 256){%- endmacro %}
