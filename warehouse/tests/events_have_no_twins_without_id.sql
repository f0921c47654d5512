{# What has no id of its producer is not there with one as well. #}
{% for relation in [ref('stg_cards'), ref('stg_orders'), ref('stg_batches')] %}
select event_key
from {{ relation }}
where producer_id is null and payload_hash in (select payload_hash from {{ relation }} where producer_id is not null)
{{ 'union all' if not loop.last }}
{% endfor %}
