{% test every_hit_of_a_client_is_in_a_session(model) %}
select event_id
from {{ model }}
where (client_key is null) <> (session_id is null) or (client_key is null) <> (session_hit is null)
{% endtest %}
