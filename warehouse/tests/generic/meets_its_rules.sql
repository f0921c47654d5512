{#
  Fails if a rule of the variable `dq` with the severity `error` is broken by more of the new rows than it allows. `rules_of` is that of the
  rules: of the model, or raw.… of the table. What it finds is recorded when the run ends.
#}
{% test meets_its_rules(model, rules_of) %}
{%- do dq_validate(rules_of) -%}
{%- if execute and flags.INTROSPECT -%}{%- do _dq_validate_columns(rules_of, model) -%}{%- endif -%}
select *
from (
{{ dq_results_of(rules_of) }}
) as results
where status = 'error'
{% endtest %}
