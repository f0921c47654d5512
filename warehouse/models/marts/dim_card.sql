{{ config(unique_key='sku') }}
{#
  Every card of which there is an entry in the catalog, an order or a batch. A card that was ordered or produced before its entry
  came is `is_inferred`, so that facts always find their card.
#}
{% set staged = [ref('stg_cards'), ref('stg_orders'), ref('stg_batches')] %}
with affected as (
{% for relation in staged %}
  select sku
  from {{ relation }}
  where sku is not null
  {%- if is_incremental() %} and loaded_at > {{ watermark(this) }}{% endif %}
  {{ 'union' if not loop.last }}
{% endfor %}
),
seen as (
{% for relation in staged %}
  select sku, recorded_at, loaded_at from {{ relation }} where sku in (select sku from affected)
  {{ 'union all' if not loop.last }}
{% endfor %}
),
cards as (
  select
    sku,
    min(recorded_at) as first_seen_at,
    max(loaded_at) as loaded_at
  from seen
  group by sku
),
entries as (
  select
    stg_cards.*,
    count(*) over (partition by sku) as entry_count
  from {{ ref('stg_cards') }} as stg_cards
  where sku in (select sku from cards)
  qualify row_number() over (partition by sku order by recorded_at desc, event_key desc) = 1
)
select
  cards.sku,
  entries.card_name,
  entries.sport,
  entries.player_name,
  entries.team_name,
  entries.card_parallel,
  entries.print_run,
  entries.sku is null as is_inferred,
  coalesce(entries.entry_count, 0) as entries,
  cards.first_seen_at,
  entries.recorded_at as entered_at,
  cards.loaded_at
from cards
left join entries on entries.sku = cards.sku
