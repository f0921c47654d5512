{# units and scale that make no decimal of this project, because of more than 8 decimal places that are not 0, or more than 18. #}
{% test no_digit_is_lost(model, decimal) %}
select event_key, {{ decimal }}_units, {{ decimal }}_scale
from {{ model }}
where {{ decimal }} is null and {{ decimal }}_units is not null
{% endtest %}
