{{ config(alias='purchases') }}
{%- set staged -%}({{ select_purchases(ref('logs_live'), ref('logs_staged')) }}) as staged{%- endset -%}
{{ select_live(ref('purchases'), 'transaction_id', staged, purchase_columns()) }}
