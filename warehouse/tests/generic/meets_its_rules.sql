{#
  Fails if a rule of the variable `dq` with the severity `error` is broken by more of the new rows than it allows. `rules_of` is the name
  in the variable: that of the model, or raw.… of a raw table. What it counts is recorded when the run ends.
#}
{% test meets_its_rules(model, rules_of) %}
{{ dq_test(model, rules_of, 'meets_its_rules') }}
{% endtest %}
