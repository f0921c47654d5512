{{ config(unique_key='event_id') }}
{%- set new -%}
{%- if is_incremental() -%}(select * from {{ ref('logs') }} where loaded_at > {{ watermark(this) }}) as logs{%- else -%}{{ ref('logs') }}{%- endif -%}
{%- endset -%}
{{ select_product_actions(new) }}
