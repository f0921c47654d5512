{% test no_card_sells_more_than_was_produced(model, column_name) %}
select sku, sold, produced
from {{ model }}
where {{ column_name }}
{% endtest %}
