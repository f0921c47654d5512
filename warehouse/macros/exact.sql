{#
  units × 10^-scale, exactly. The point is put between the digits: a division would go through floating point.

  Both are text. Null if a digit would be lost, which the test `no_digit_is_lost` finds, because units and scale are kept.
#}
{% macro exact_decimal(units, scale) -%}
{%- set places = 'coalesce(' ~ try_cast_text(scale, 'bigint') ~ ', 0)' -%}
{%- set absolute = "ltrim(" ~ units ~ ", '-')" -%}
{#- With a digit before the point, if there are at most 18 places. -#}
{%- set digits = "right('000000000000000000' || " ~ absolute ~ ", cast(greatest(length(" ~ absolute ~ "), " ~ places ~ " + 1) as integer))" -%}
case
  when {{ places }} not between 0 and 18 then null
  when rtrim(substring({{ digits }}, cast(length({{ digits }}) - {{ places }} + 1 + {{ decimal_places() }} as integer), 18), '0') <> '' then null
  else {{ try_cast_text(
    "case when " ~ units ~ " like '-%' then '-' else '' end"
    ~ " || left(" ~ digits ~ ", cast(length(" ~ digits ~ ") - " ~ places ~ " as integer))"
    ~ " || '.' || right(" ~ digits ~ ", cast(" ~ places ~ " as integer))",
    price_type()) }}
end
{%- endmacro %}

{# Every int64 fits, and a product with a 32-bit integer is below the 38 digits that all three warehouses have. #}
{% macro decimal_places() -%}8{%- endmacro %}
{% macro price_type() -%}numeric(27, 8){%- endmacro %}
{% macro amount_type() -%}numeric(38, 8){%- endmacro %}
