{{ config(materialized='view') }}
{# What was sold of a card beside what was produced of it. Cards of which no batch was reported were produced before the first report. #}
with sold as (
  select sku, sum(quantity) as sold
  from {{ ref('fct_orders') }}
  where not is_cancelled
  group by sku
),
produced as (
  select sku, sum(sellable_estimate) as produced
  from {{ ref('fct_batch_performance') }}
  group by sku
)
select
  coalesce(sold.sku, produced.sku) as sku,
  coalesce(sold.sold, 0) as sold,
  produced.produced,
  coalesce(sold.sold > produced.produced, false) as is_oversold
from sold
full outer join produced on produced.sku = sold.sku
