{{ config(alias='product_actions') }}
{%- set staged -%}({{ select_product_actions(ref('logs_staged')) }}) as staged{%- endset -%}
{{ select_live(ref('product_actions'), 'event_id', staged, product_action_columns()) }}
