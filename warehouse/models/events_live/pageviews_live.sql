{{ config(alias='pageviews') }}
{%- set staged -%}({{ select_pageviews(ref('logs_staged')) }}) as staged{%- endset -%}
{{ select_live(ref('pageviews'), 'event_id', staged, pageview_columns()) }}
