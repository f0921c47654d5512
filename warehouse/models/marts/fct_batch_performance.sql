{{ config(unique_key='batch_id') }}
{# A batch that is reported again replaces what was reported before. #}
with reported as (
  select
    coalesce(batch_id, event_key) as batch_id,
    sku,
    production_date,
    quantity_produced,
    defect_rate_estimate,
    recorded_at,
    event_key,
    loaded_at
  from {{ ref('stg_batches') }}
),
affected as (
  select *
  from reported
  {%- if is_incremental() %}
  where batch_id in (select batch_id from reported where loaded_at > {{ watermark(this) }})
  {%- endif %}
),
latest as (
  select
    affected.*,
    count(*) over (partition by batch_id) as reports,
    max(loaded_at) over (partition by batch_id) as last_loaded_at
  from affected
  qualify row_number() over (partition by batch_id order by recorded_at desc, event_key desc) = 1
)
select
  batch_id,
  sku,
  cast(production_date as date) as production_date,
  quantity_produced,
  defect_rate_estimate,
  cast(round(quantity_produced * defect_rate_estimate, 0) as bigint) as defects_estimate,
  quantity_produced - coalesce(cast(round(quantity_produced * defect_rate_estimate, 0) as bigint), 0) as sellable_estimate,
  reports,
  recorded_at as reported_at,
  last_loaded_at as loaded_at
from latest
