{{ config(unique_key='transaction_id') }}
{%- set new -%}(select * from {{ ref('logs') }} where loaded_at > {{ watermark(this) }}) as logs{%- endset -%}
{{ select_purchases(ref('logs'), new if is_incremental() else none) }}
