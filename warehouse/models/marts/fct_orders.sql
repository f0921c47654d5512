{{ config(unique_key='event_key', post_hook="{{ drop_what_is_not_in(ref('stg_orders')) }}") }}
select
  event_key,
  order_id,
  customer_id,
  sku,
  replace(status, 'ORDER_STATUS_', '') as status,
  coalesce(status = 'ORDER_STATUS_CANCELLED', false) as is_cancelled,
  coalesce(order_ts, recorded_at) as ordered_at,
  cast(coalesce(order_ts, recorded_at) as date) as order_date,
  quantity,
  price as unit_price,
  cast(price * quantity as {{ amount_type() }}) as amount,
  cast(case when status = 'ORDER_STATUS_CANCELLED' then 0 else price * quantity end as {{ amount_type() }}) as revenue,
  origin,
  loaded_at
from {{ ref('stg_orders') }}
{%- if is_incremental() %}
where loaded_at > {{ watermark(this) }}
{%- endif %}
