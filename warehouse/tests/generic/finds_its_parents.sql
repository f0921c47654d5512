{# The same for the rules `foreign_key`. #}
{% test finds_its_parents(model, rules_of) %}
{{ dq_test(model, rules_of, 'finds_its_parents') }}
{% endtest %}
