{#
  What happened in each hour or day. With `known`, only of periods that changed: those with hits that are new or have another session,
  and those of other hits of a transaction of which there is a new one, which may count in another period now.
#}
{% macro select_overview(grain, known) %}
with
{%- if known %}
new_logs as (
  select * from {{ ref('logs') }} where loaded_at > {{ watermark(known) }}
),
changed as (
  select {{ dbt.date_trunc(grain, 'hit_at') }} as period_start from new_logs
  union
  select {{ dbt.date_trunc(grain, 'hit_at') }} as period_start
  from {{ ref('logs') }}
  where product_action = 'purchase' and transaction_id in (select transaction_id from new_logs where product_action = 'purchase')
),
{%- endif %}
hits as (
  select logs.*, {{ dbt.date_trunc(grain, 'hit_at') }} as period_start
  from {{ ref('logs') }} as logs
  {%- if known %}
  where {{ dbt.date_trunc(grain, 'hit_at') }} in (select period_start from changed)
  {%- endif %}
),
bought as (
  select purchases.*, {{ dbt.date_trunc(grain, 'hit_at') }} as period_start
  from {{ ref('purchases') }} as purchases
  {%- if known %}
  where {{ dbt.date_trunc(grain, 'hit_at') }} in (select period_start from changed)
  {%- endif %}
),
counted as (
  select
    period_start,
    count(*) as hits,
    sum(case when is_bot then 1 else 0 end) as bot_hits,
    count(distinct session_id) as sessions,
    sum(case when session_hit = 1 then 1 else 0 end) as new_sessions,
    count(distinct client_key) as clients,
    sum(case when hit_type = 'pageview' then 1 else 0 end) as pageviews,
    sum(case when product_action = 'detail' then 1 else 0 end) as product_details,
    sum(case when product_action = 'add' then 1 else 0 end) as add_to_cart,
    sum(case when product_action = 'remove' then 1 else 0 end) as remove_from_cart,
    max(loaded_at) as loaded_at
  from hits
  group by period_start
),
purchased as (
  select
    period_start,
    count(*) as transactions,
    count(distinct session_id) as buying_sessions,
    sum(transaction_revenue) as transaction_revenue,
    sum(transaction_tax) as transaction_tax,
    sum(transaction_shipping) as transaction_shipping
  from bought
  group by period_start
),
items as (
  select bought.period_start, sum(product_actions.product_quantity) as items
  from bought
  inner join {{ ref('product_actions') }} as product_actions on product_actions.event_id = bought.event_id
  group by bought.period_start
)
select
  counted.period_start,
  counted.hits,
  cast(counted.bot_hits as bigint) as bot_hits,
  counted.sessions,
  cast(counted.new_sessions as bigint) as new_sessions,
  counted.clients,
  cast(counted.pageviews as bigint) as pageviews,
  cast(counted.product_details as bigint) as product_details,
  cast(counted.add_to_cart as bigint) as add_to_cart,
  cast(counted.remove_from_cart as bigint) as remove_from_cart,
  coalesce(purchased.transactions, 0) as transactions,
  coalesce(cast(items.items as bigint), 0) as items,
  cast(coalesce(purchased.transaction_revenue, 0) as numeric(38, 4)) as transaction_revenue,
  cast(coalesce(purchased.transaction_tax, 0) as numeric(38, 4)) as transaction_tax,
  cast(coalesce(purchased.transaction_shipping, 0) as numeric(38, 4)) as transaction_shipping,
  {#- Of the sessions of the period, the share that bought in it. #}
  cast(round(1.0 * coalesce(purchased.buying_sessions, 0) / nullif(counted.sessions, 0), 6) as numeric(9, 6)) as conversion,
  counted.loaded_at
from counted
left join purchased on purchased.period_start = counted.period_start
left join items on items.period_start = counted.period_start
{% endmacro %}
