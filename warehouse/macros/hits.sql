{#
  The queries of EVENTS and EVENTS_LIVE. Each takes the relations that it reads, so that the tables, which hold what the last run
  found, and the views, which hold what is there now, are the same queries over different rows.
#}

{# A line of collect as columns. `relation` has data and loaded_at. Hits of one client are those of its client id, or else of its user id. #}
{% macro select_hits(relation) %}
{%- set body = ['request', 'body'] -%}
with parsed as (
  select
    {{ json_text('data', ['event_id']) }} as event_id,
    {{ json_text('data', ['service', 'id']) }} as service_id,
    {{ utc_of_ms(try_cast_text(json_text('data', ['hit', 'time']), 'bigint')) }} as hit_at,
    {{ utc_of_ms(try_cast_text(json_text('data', ['request', 'timestamp']), 'bigint')) }} as received_at,
    {{ json_text('data', ['context', 'client_id']) }} as client_id,
    {{ json_text('data', ['context', 'user_id']) }} as user_id,
    lower(coalesce({{ json_text('data', ['hit', 'type']) }}, {{ json_text('data', body + ['t']) }})) as t,
    lower({{ json_text('data', body + ['en']) }}) as en,
    lower({{ json_text('data', body + ['pa']) }}) as pa,
    {{ _either(body, 'ti', 'transaction_id') }} as transaction_id,
    {{ try_cast_text(_either(body, 'tr', 'value'), 'numeric(18, 4)') }} as transaction_revenue,
    {{ try_cast_text(_either(body, 'tt', 'tax'), 'numeric(18, 4)') }} as transaction_tax,
    {{ try_cast_text(_either(body, 'ts', 'shipping'), 'numeric(18, 4)') }} as transaction_shipping,
    upper({{ json_text('data', body + ['cu']) }}) as currency,
    {{ json_text('data', ['context', 'document_location']) }} as document_location,
    {{ json_text('data', ['context', 'document_referrer']) }} as document_referrer,
    {{ json_text('data', body + ['dp']) }} as document_path,
    {{ json_text('data', body + ['dt']) }} as document_title,
    {{ json_text('data', body + ['tid']) }} as property_id,
    {{ json_text('data', ['context', 'user_agent']) }} as user_agent,
    {{ json_text('data', ['agent', 'browser']) }} as browser,
    {{ json_text('data', ['agent', 'browser_version']) }} as browser_version,
    {{ json_text('data', ['agent', 'os']) }} as os,
    {{ json_text('data', ['agent', 'device']) }} as device,
    coalesce({{ json_text('data', ['agent', 'is_bot']) }} = 'true', false) as is_bot,
    {{ json_value('data', ['products']) }} as products,
    data as line,
    loaded_at
  from {{ relation }} as delivered
)
select
  coalesce(event_id, {{ sha256(json_serialized('line')) }}) as event_id,
  hit_at,
  received_at,
  coalesce(client_id, user_id) as client_key,
  client_id,
  user_id,
  case when t is not null then t when en = 'page_view' then 'pageview' when en is not null then 'event' end as hit_type,
  case
    when pa is not null then pa
    when t = 'transaction' then 'purchase'
    {%- for name, action in _ga4_actions().items() %}
    when en = '{{ name }}' then '{{ action }}'
    {%- endfor %}
  end as product_action,
  transaction_id,
  transaction_revenue,
  transaction_tax,
  transaction_shipping,
  currency,
  document_location,
  document_referrer,
  document_path,
  document_title,
  property_id,
  user_agent,
  browser,
  browser_version,
  os,
  device,
  is_bot,
  products,
  case
    when parsed.event_id is null then 'no_event_id'
    when service_id = 'api.collect.rejected' then 'by_collect'
    when hit_at is null then 'no_time'
    when t is null and en is null then 'no_type'
  end as rejected_for,
  loaded_at
from parsed
{% endmacro %}

{# A parameter of version 1, or else of GA4, where some clients send a number as text, or a text of digits as a number. #}
{% macro _either(body, v1, ga4) -%}
coalesce({{ json_text('data', body + [v1]) }}, {{ json_text('data', body + ['ep.' ~ ga4]) }}, {{ json_text('data', body + ['epn.' ~ ga4]) }})
{%- endmacro %}

{# Names of events in version 2 of the protocol, and the actions that they are in version 1. #}
{% macro _ga4_actions() %}
{{ return({
  'select_item': 'click', 'view_item': 'detail', 'add_to_cart': 'add', 'remove_from_cart': 'remove', 'begin_checkout': 'checkout',
  'purchase': 'purchase', 'refund': 'refund',
}) }}
{% endmacro %}

{% macro hit_columns() %}
{{ return([
  'event_id', 'hit_at', 'received_at', 'client_key', 'client_id', 'user_id', 'hit_type', 'product_action', 'transaction_id',
  'transaction_revenue', 'transaction_tax', 'transaction_shipping', 'currency', 'document_location', 'document_referrer',
  'document_path', 'document_title', 'property_id', 'user_agent', 'browser', 'browser_version', 'os', 'device', 'is_bot', 'products',
]) }}
{% endmacro %}

{% macro staged_columns() %}{{ return(hit_columns() + ['rejected_for', 'loaded_at']) }}{% endmacro %}

{#
  Hits, each once. All copies of a hit have its event_id; the one that happened first and came first is kept. What came without
  one has the hash of its line. `known` is what was found before, and may be none.
#}
{% macro select_staged_hits(relation, known) %}
{%- set columns = staged_columns() | join(', ') -%}
with hits as (
  {{ select_hits(relation) | indent(2) }}
),
candidates as (
  select {{ columns }} from hits
  {%- if known %}
  union all
  select {{ columns }} from {{ known }} where event_id in (select event_id from hits)
  {%- endif %}
)
select {{ columns }}
from candidates
qualify row_number() over (partition by event_id order by hit_at, received_at, loaded_at) = 1
{% endmacro %}

{#
  Hits with their sessions. A session goes on until its client is silent for more than `session_gap_minutes`, also across midnight.

  `events` has all hits, `new` those that came since the sessions of `known` were made. A late hit can lengthen a session, or join
  two. So the sessions of its client are made again from the session on that can reach it, and those before stay as they are.
  Without `known` all are made.
#}
{% macro select_logs(events, new, known) %}
{%- set gap = var('session_gap_minutes') -%}
with
{%- if known %}
silence as (
  select client_key, {{ dbt.dateadd('minute', -gap, 'min(hit_at)') }} as since
  from {{ new }}
  where client_key is not null
  group by client_key
),
affected as (
  select silence.client_key, least(min(silence.since), coalesce(min(reachable.session_started_at), min(silence.since))) as since
  from silence
  left join {{ known }} as reachable on reachable.client_key = silence.client_key and reachable.hit_at >= silence.since
  group by silence.client_key
),
hits as (
  select events.*
  from {{ events }} as events
  inner join affected on affected.client_key = events.client_key and events.hit_at >= affected.since
  union all
  select * from {{ new }} where client_key is null
),
stamp as (
  select max(loaded_at) as loaded_at from {{ new }}
),
{%- else %}
hits as (
  select * from {{ events }}
),
{%- endif %}
silent as (
  select
    hits.*,
    lag(hit_at) over (partition by client_key order by hit_at, event_id) as last_hit_at
  from hits
),
begun as (
  select
    silent.*,
    case when last_hit_at is null or hit_at > {{ dbt.dateadd('minute', gap, 'last_hit_at') }} then 1 else 0 end as begins
  from silent
),
numbered as (
  select
    begun.*,
    sum(begins) over (partition by client_key order by hit_at, event_id rows between unbounded preceding and current row) as number
  from begun
),
placed as (
  select
    numbered.*,
    first_value(event_id) over (
      partition by client_key, number order by hit_at, event_id rows between unbounded preceding and unbounded following
    ) as first_event_id,
    min(hit_at) over (partition by client_key, number) as first_hit_at,
    row_number() over (partition by client_key, number order by hit_at, event_id) as hit_number
  from numbered
)
select
  {%- for column in hit_columns() %}
  {{ column }},
  {%- endfor %}
  {#- A hit of nobody has no session: its client asked for no id. #}
  case when client_key is not null then {{ dbt.hash("client_key || ' ' || first_event_id") }} end as session_id,
  case when client_key is not null then first_hit_at end as session_started_at,
  case when client_key is not null then hit_number end as session_hit,
  {#- What is made again is new to what is made of it. #}
  {% if known %}(select loaded_at from stamp){% else %}loaded_at{% endif %} as loaded_at
from placed
{% endmacro %}

{% macro select_pageviews(logs) %}
select {{ pageview_columns() | join(', ') }}
from {{ logs }}
where hit_type = 'pageview'
{% endmacro %}

{# A row for each product of a hit with an action: detail, add, remove, purchase, … #}
{% macro select_product_actions(logs) %}
{%- set product = element('product') -%}
select
  logs.event_id || '.' || {{ json_text(product, ['index']) }} as product_action_id,
  logs.event_id,
  logs.hit_at,
  logs.session_id,
  logs.client_id,
  logs.user_id,
  logs.product_action,
  logs.transaction_id,
  {{ try_cast_text(json_text(product, ['index']), 'integer') }} as product_index,
  {{ json_text(product, ['id']) }} as product_id,
  {{ json_text(product, ['name']) }} as product_name,
  {{ json_text(product, ['brand']) }} as product_brand,
  {{ json_text(product, ['category']) }} as product_category,
  {{ json_text(product, ['variant']) }} as product_variant,
  {{ try_cast_text(json_text(product, ['price']), 'numeric(18, 4)') }} as product_price,
  {{ try_cast_text(json_text(product, ['quantity']), 'bigint') }} as product_quantity,
  {{ json_text(product, ['coupon']) }} as product_coupon,
  {{ try_cast_text(json_text(product, ['position']), 'integer') }} as product_position,
  logs.is_bot,
  logs.loaded_at
from (select * from {{ logs }} where product_action is not null) as logs
{{ unnest('logs.products', 'product') }}
{% endmacro %}

{#
  Purchases, each once by its transaction: a page of thanks that is loaded again is another hit of the same transaction. `logs` has
  all hits with their sessions. With `new`, only the transactions of which there is a new hit.
#}
{% macro select_purchases(logs, new) %}
select
  transaction_id, event_id, hit_at, session_id, client_id, user_id, transaction_revenue, transaction_tax, transaction_shipping,
  currency, is_bot,
  max(loaded_at) over (partition by transaction_id) as loaded_at
from {{ logs }}
where product_action = 'purchase' and transaction_id is not null
{%- if new %} and transaction_id in (select transaction_id from {{ new }} where product_action = 'purchase'){% endif %}
qualify row_number() over (partition by transaction_id order by hit_at, event_id) = 1
{% endmacro %}

{# What collect knew of a user agent when it came last. `known` is what was found before, and may be none. #}
{% macro select_user_agents(events, known) %}
with seen as (
  select
    user_agent, browser, browser_version, os, device, is_bot,
    hit_at as first_seen_at, hit_at as last_seen_at, event_id as last_event_id, loaded_at
  from {{ events }}
  where user_agent is not null
  {%- if known %}
  union all
  select user_agent, browser, browser_version, os, device, is_bot, first_seen_at, last_seen_at, last_event_id, loaded_at
  from {{ known }}
  where user_agent in (select user_agent from {{ events }})
  {%- endif %}
)
select
  {{ dbt.hash('user_agent') }} as user_agent_id,
  user_agent, browser, browser_version, os, device, is_bot,
  min(first_seen_at) over (partition by user_agent) as first_seen_at,
  last_seen_at,
  last_event_id,
  max(loaded_at) over (partition by user_agent) as loaded_at
from seen
qualify row_number() over (partition by user_agent order by last_seen_at desc, last_event_id desc) = 1
{% endmacro %}

{# Rows of a table, except those that a live view has made again, and these. #}
{% macro select_live(table, key, staged, columns) %}
select {{ columns | join(', ') }} from {{ table }} where {{ key }} not in (select {{ key }} from {{ staged }})
union all
select {{ columns | join(', ') }} from {{ staged }}
{% endmacro %}

{# The columns of a query of this file, which the views of EVENTS_LIVE name because they unite it with a table. #}
{% macro log_columns() %}{{ return(hit_columns() + ['session_id', 'session_started_at', 'session_hit', 'loaded_at']) }}{% endmacro %}
{% macro pageview_columns() %}
{{ return([
  'event_id', 'hit_at', 'session_id', 'session_hit', 'client_id', 'user_id', 'document_location', 'document_referrer',
  'document_path', 'document_title', 'is_bot', 'loaded_at',
]) }}
{% endmacro %}
{% macro product_action_columns() %}
{{ return([
  'product_action_id', 'event_id', 'hit_at', 'session_id', 'client_id', 'user_id', 'product_action', 'transaction_id', 'product_index',
  'product_id', 'product_name', 'product_brand', 'product_category', 'product_variant', 'product_price', 'product_quantity',
  'product_coupon', 'product_position', 'is_bot', 'loaded_at',
]) }}
{% endmacro %}
{% macro purchase_columns() %}
{{ return([
  'transaction_id', 'event_id', 'hit_at', 'session_id', 'client_id', 'user_id', 'transaction_revenue', 'transaction_tax',
  'transaction_shipping', 'currency', 'is_bot', 'loaded_at',
]) }}
{% endmacro %}
{% macro user_agent_columns() %}
{{ return([
  'user_agent_id', 'user_agent', 'browser', 'browser_version', 'os', 'device', 'is_bot', 'first_seen_at', 'last_seen_at',
  'last_event_id', 'loaded_at',
]) }}
{% endmacro %}
