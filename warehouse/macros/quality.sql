{#
  Data quality: the rules of the variable `dq` in dbt_project.yml.

  The test `meets_its_rules` of a model fails if a rule with the severity `error` is broken by more rows than it allows, and dbt builds nothing
  behind a model whose test failed. Rules of foreign keys have a test of their own, `finds_its_parents`: dbt lets a test that reads two models
  stop only what is behind both. When a run ends, `dq_record` notes what its tests counted, and the rows that they found:

  dq.dq_results   a row for each rule and run
  dq.quarantine   a row for each rule and row that breaks it

  A run looks at the rows that came since the last one in which the rule was not an error. An error is so repeated until the rows are corrected
  or the rule is changed: a rule with another definition begins anew, at the first row.
#}
{% macro dq_rules() %}
{# What a rule can say besides `rule`, `column`, `severity`, `max_failed` and `max_share`. The first members must be there. #}
{{ return({
  'not_null': {'must': [], 'may': []},
  'type': {'must': ['type'], 'may': []},
  'range': {'must': [], 'may': ['min', 'max']},
  'regex': {'must': ['pattern'], 'may': []},
  'accepted': {'must': ['values'], 'may': []},
  'unique': {'must': [], 'may': []},
  'foreign_key': {'must': ['to', 'field'], 'may': []},
  'freshness': {'must': ['max_hours'], 'may': []},
  'row_count_drift': {'must': ['max_drift'], 'may': ['runs']},
}) }}
{% endmacro %}

{# The rules that a test is about. #}
{% macro _dq_rules_of(name, test) %}
{%- set mine = [] -%}
{%- for rule in dq_checked(name).rules if (rule.rule == 'foreign_key') == (test == 'finds_its_parents') -%}{%- do mine.append(rule) -%}{%- endfor -%}
{{ return(mine) }}
{% endmacro %}

{# Rules about a table and not about its rows. What breaks them is no row, so only the results have it. #}
{% macro _dq_is_about_table(rule) %}{{ return(rule.rule in ['freshness', 'row_count_drift']) }}{% endmacro %}

{% macro dq_checked(name) %}
{%- if name not in var('dq') -%}
{{ exceptions.raise_compiler_error("dq: there are no rules for " ~ name ~ " in the variable dq of dbt_project.yml, which has " ~ var('dq') | join(', ')) }}
{%- endif -%}
{{ return(var('dq')[name]) }}
{% endmacro %}

{% macro _dq_wrong(name, rule, what) %}
{{ exceptions.raise_compiler_error("dq: " ~ name ~ (", rule " ~ tojson(rule) if rule else "") ~ ": " ~ what) }}
{% endmacro %}

{# Mistakes in the rules of a model that can be seen without its table. #}
{% macro dq_validate(name) %}
{%- set checked = dq_checked(name) -%}
{%- set steps = ['raw', 'staging', 'dimension', 'fact'] -%}
{%- if checked.step not in steps -%}
{%- do _dq_wrong(name, none, "the step is " ~ checked.step ~ ", and not one of " ~ steps | join(', ')) -%}
{%- endif -%}
{%- for member in ['key', 'rules'] if not checked[member] -%}
{%- do _dq_wrong(name, none, "there is no " ~ member) -%}
{%- endfor -%}
{%- set definitions = [] -%}
{%- for rule in checked.rules -%}
  {%- set known = dq_rules() -%}
  {%- if rule.rule not in known -%}
  {%- do _dq_wrong(name, rule, "there is no rule " ~ rule.rule ~ ", but " ~ known | join(', ')) -%}
  {%- endif -%}
  {%- set must = known[rule.rule].must + ([] if rule.rule == 'row_count_drift' else ['column']) -%}
  {%- set may = must + known[rule.rule].may + ['rule', 'severity', 'max_failed', 'max_share'] -%}
  {%- for member in must if rule[member] is not defined or rule[member] is none -%}
  {%- do _dq_wrong(name, rule, "it has no " ~ member) -%}
  {%- endfor -%}
  {%- for member in rule if member not in may -%}
  {%- do _dq_wrong(name, rule, "a rule " ~ rule.rule ~ " has no " ~ member ~ ", but " ~ may | join(', ')) -%}
  {%- endfor -%}
  {%- if rule.severity not in ['warn', 'error'] -%}
  {%- do _dq_wrong(name, rule, "the severity is neither warn nor error") -%}
  {%- endif -%}
  {%- for member in ['max_failed', 'max_share', 'max_hours', 'max_drift', 'runs'] if member in rule and (rule[member] is not number or rule[member] < 0) -%}
  {%- do _dq_wrong(name, rule, member ~ " is no number from 0 on") -%}
  {%- endfor -%}
  {%- set definition = _dq_definition(name, rule) -%}
  {%- if definition in definitions -%}{%- do _dq_wrong(name, rule, "it is there twice") -%}{%- endif -%}
  {%- do definitions.append(definition) -%}
  {%- if rule.rule == 'range' -%}{%- do _dq_validate_range(name, rule) -%}{%- endif -%}
  {%- if rule.rule == 'regex' and '\\' in rule.pattern -%}
  {#- The three warehouses read a backslash in three ways. -#}
  {%- do _dq_wrong(name, rule, "the pattern has a backslash: write [0-9] for a digit and [.] for a point") -%}
  {%- endif -%}
  {%- if rule.rule == 'accepted' and (rule['values'] is string or rule['values'] is mapping or rule['values'] is not sequence or not rule['values']) -%}
  {%- do _dq_wrong(name, rule, "values is no list with something in it") -%}
  {%- endif -%}
{%- endfor -%}
{% endmacro %}

{% macro _dq_validate_range(name, rule) %}
{%- set bounds = [rule.min, rule.max] | reject('none') | reject('undefined') | list -%}
{%- if not bounds -%}{%- do _dq_wrong(name, rule, "it has neither min nor max") -%}{%- endif -%}
{%- for bound in bounds if bound is not number and bound is not string -%}
{%- do _dq_wrong(name, rule, bound ~ " is neither a number nor a time") -%}
{%- endfor -%}
{%- if bounds | length == 2 -%}
  {%- if (bounds[0] is string) != (bounds[1] is string) -%}{%- do _dq_wrong(name, rule, "one of min and max is a time and the other a number") -%}{%- endif -%}
  {%- if bounds[0] > bounds[1] -%}{%- do _dq_wrong(name, rule, "min is more than max") -%}{%- endif -%}
{%- endif -%}
{% endmacro %}

{# Columns that a table has not. Before its first run there is none to ask, and offline there is nobody. #}
{% macro _dq_validate_columns(name, relation) %}
{%- set present = adapter.get_columns_in_relation(relation) | map(attribute='name') | map('lower') | list -%}
{%- if present -%}
{%- set checked = dq_checked(name) -%}
{%- if checked.key | lower not in present -%}
{%- do _dq_wrong(name, none, "the key is " ~ checked.key ~ ", which is no column of it: " ~ present | join(', ')) -%}
{%- endif -%}
{%- for rule in checked.rules if rule.column and rule.column | lower not in present -%}
{%- do _dq_wrong(name, rule, "it has no column " ~ rule.column ~ ", but " ~ present | join(', ')) -%}
{%- endfor -%}
{%- endif -%}
{% endmacro %}

{# The relation of a name in the rules: a model, or raw.… for a table of the source. #}
{% macro dq_relation(name) %}
{%- if name.startswith('raw.') -%}{{ return(source('raw', name[4:])) }}{%- endif -%}
{{ return(ref(name)) }}
{% endmacro %}

{% macro _dq_own(table) %}
{{ return(api.Relation.create(database=target.database, schema='dq', identifier=table)) }}
{% endmacro %}

{# The rows of a model with the time at which they came. A raw table has that in the ledger. #}
{% macro _dq_rows(name) -%}
{%- if name.startswith('raw.') -%}
(
    select raw_rows.*, ledger.loaded_at
    from {{ dq_relation(name) }} as raw_rows
    inner join {{ ref('files') }} as ledger on ledger.source_name = '{{ name[4:] }}' and ledger.file = raw_rows._file
  )
{%- else -%}
{{ dq_relation(name) }}
{%- endif -%}
{%- endmacro %}

{# Names a rule in the results. #}
{% macro _dq_definition(name, rule) %}
{%- set members = {} -%}
{%- for member in rule if member not in ['severity', 'max_failed', 'max_share'] -%}{%- do members.update({member: rule[member]}) -%}{%- endfor -%}
{{ return(tojson(members, sort_keys=true)) }}
{% endmacro %}

{% macro _dq_quoted(value) -%}'{{ value | string | replace("'", "''") }}'{%- endmacro %}

{# Until which `loaded_at` the rule has looked at the rows. #}
{% macro _dq_watermark(name, rule) -%}
(
    select coalesce(max(checked_until), cast('1970-01-01' as timestamp))
    from {{ _dq_own('dq_results') }}
    where model_name = '{{ name }}' and definition = {{ _dq_quoted(_dq_definition(name, rule)) }}
    {%- if not _dq_is_about_table(rule) %} and status <> 'error'{% endif %}
  )
{%- endmacro %}

{# The condition that a row breaks. #}
{% macro _dq_breaks(name, rule) -%}
{%- set column = rule.column -%}
{%- if rule.rule == 'not_null' -%}
rows_of.{{ column }} is null
{%- elif rule.rule == 'type' -%}
rows_of.{{ column }} is not null and {{ try_cast_text('cast(rows_of.' ~ column ~ ' as ' ~ text_type() ~ ')', rule.type) }} is null
{%- elif rule.rule == 'range' -%}
{%- set bounds = [] -%}
{%- for member, sign in [('min', '<'), ('max', '>')] if rule[member] is defined and rule[member] is not none -%}
{%- do bounds.append('rows_of.' ~ column ~ ' ' ~ sign ~ ' ' ~ ('cast(' ~ _dq_quoted(rule[member]) ~ ' as timestamp)' if rule[member] is string else rule[member])) -%}
{%- endfor -%}
{{ bounds | join(' or ') }}
{%- elif rule.rule == 'regex' -%}
not {{ regex_found('cast(rows_of.' ~ column ~ ' as ' ~ text_type() ~ ')', _dq_quoted(rule.pattern)) }}
{%- elif rule.rule == 'accepted' -%}
rows_of.{{ column }} not in ({% for value in rule['values'] %}{{ value if value is number else _dq_quoted(value) }}{{ ', ' if not loop.last }}{% endfor %})
{%- elif rule.rule == 'unique' -%}
twins.twin is not null
{%- elif rule.rule == 'foreign_key' -%}
rows_of.{{ column }} is not null and parents.parent is null
{%- endif -%}
{%- endmacro %}

{# The rows that a rule looks at, with what they are compared with. A join, because not every warehouse takes a subquery for each row. #}
{% macro _dq_looked_at(name, rule) -%}
{{ _dq_rows(name) }} as rows_of
  {%- if rule.rule == 'unique' %}
  left join (
    select {{ rule.column }} as twin from {{ dq_relation(name) }} group by {{ rule.column }} having count(*) > 1
  ) as twins on twins.twin = rows_of.{{ rule.column }}
  {%- elif rule.rule == 'foreign_key' %}
  left join (select distinct {{ rule.field }} as parent from {{ dq_relation(rule.to) }}) as parents on parents.parent = rows_of.{{ rule.column }}
  {%- endif %}
{%- endmacro %}

{# How many rows a rule has looked at, how many break it, and until when. #}
{% macro _dq_counted(name, rule) -%}
{%- if rule.rule == 'freshness' -%}
select
    1 as checked,
    case when max(rows_of.{{ rule.column }}) >= {{ dbt.dateadd('hour', -1 * rule.max_hours, _dq_now()) }} then 0 else 1 end as failed,
    {{ _dq_now() }} as checked_until
  from {{ dq_relation(name) }} as rows_of
{%- elif rule.rule == 'row_count_drift' -%}
{#- Beside the mean of the last runs. There is nothing to compare the first of them with. -#}
select
    new_rows.checked,
    case when usual.runs = {{ rule.get('runs', 5) }} and abs(new_rows.checked - usual.mean) > {{ rule.max_drift }} * usual.mean then 1 else 0 end as failed,
    new_rows.checked_until
  from (
    select count(*) as checked, coalesce(max(rows_of.loaded_at), {{ _dq_watermark(name, rule) }}) as checked_until
    from {{ _dq_rows(name) }} as rows_of
    where rows_of.loaded_at > {{ _dq_watermark(name, rule) }}
  ) as new_rows
  cross join (
    select count(*) as runs, avg(cast(checked as double precision)) as mean
    from (
      select checked, row_number() over (order by run_at desc) as position
      from {{ _dq_own('dq_results') }}
      where model_name = '{{ name }}' and definition = {{ _dq_quoted(_dq_definition(name, rule)) }}
    ) as earlier
    where position <= {{ rule.get('runs', 5) }}
  ) as usual
{%- else -%}
select
    count(*) as checked,
    coalesce(sum(case when {{ _dq_breaks(name, rule) }} then 1 else 0 end), 0) as failed,
    coalesce(max(rows_of.loaded_at), {{ _dq_watermark(name, rule) }}) as checked_until
  from {{ _dq_looked_at(name, rule) }}
  where rows_of.loaded_at > {{ _dq_watermark(name, rule) }}
{%- endif -%}
{%- endmacro %}

{% macro _dq_now() -%}cast('{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S.%f") }}' as timestamp){%- endmacro %}

{# A row for each rule of a test, with the columns of dq.dq_results. #}
{% macro dq_results_of(name, test) -%}
{%- set checked = dq_checked(name) -%}
{% for rule in _dq_rules_of(name, test) -%}
select
  '{{ invocation_id }}' as run_id,
  {{ _dq_now() }} as run_at,
  '{{ checked.step }}' as step,
  '{{ name }}' as model_name,
  '{{ rule.rule }}' as rule_name,
  {{ _dq_quoted(rule.column) if rule.column else "cast(null as " ~ text_type() ~ ")" }} as column_name,
  {{ _dq_quoted(_dq_definition(name, rule)) }} as definition,
  '{{ rule.severity }}' as severity,
  cast(checked as bigint) as checked,
  cast(failed as bigint) as failed,
  cast(coalesce(failed * 1.0 / nullif(checked, 0), 0) as numeric(18, 6)) as failed_share,
  case
    when failed > {{ rule.get('max_failed', 0) }} and failed > checked * {{ rule.get('max_share', 0) }} then '{{ rule.severity }}'
    else 'pass'
  end as status,
  checked_until
from (
  {{ _dq_counted(name, rule) }}
) as counted
{{ 'union all' if not loop.last }}
{% endfor %}
{%- endmacro %}

{% macro dq_test(model, name, test) -%}
{%- do dq_validate(name) -%}
{%- if execute and flags.INTROSPECT -%}{%- do _dq_validate_columns(name, model) -%}{%- endif -%}
{%- if not _dq_rules_of(name, test) -%}{%- do _dq_wrong(name, none, "it has no rule for the test " ~ test) -%}{%- endif -%}
select *
from (
{{ dq_results_of(name, test) }}
) as results
where status = 'error'
{%- endmacro %}

{# The rows of a model that break a rule and are not in quarantine yet, with the columns of dq.quarantine. #}
{% macro dq_quarantine_of(name, test) -%}
{%- set checked = dq_checked(name) -%}
{%- set about_rows = [] -%}
{%- for rule in _dq_rules_of(name, test) if not _dq_is_about_table(rule) -%}{%- do about_rows.append(rule) -%}{%- endfor -%}
{% for rule in about_rows -%}
select
  '{{ invocation_id }}' as run_id,
  {{ _dq_now() }} as found_at,
  '{{ checked.step }}' as step,
  '{{ name }}' as model_name,
  coalesce(cast(rows_of.{{ checked.key }} as {{ text_type() }}), '') as row_key,
  '{{ rule.rule }}' as rule_name,
  '{{ rule.column }}' as column_name,
  {{ _dq_quoted(_dq_definition(name, rule)) }} as definition,
  cast(rows_of.{{ rule.column }} as {{ text_type() }}) as failed_value,
  '{{ rule.severity }}' as severity
from {{ _dq_looked_at(name, rule) }}
  left join (
    select distinct row_key as known_key
    from {{ _dq_own('quarantine') }}
    where model_name = '{{ name }}' and definition = {{ _dq_quoted(_dq_definition(name, rule)) }}
  ) as known on known.known_key = coalesce(cast(rows_of.{{ checked.key }} as {{ text_type() }}), '')
where rows_of.loaded_at > {{ _dq_watermark(name, rule) }}
  and ({{ _dq_breaks(name, rule) }})
  and known.known_key is null
{{ 'union all' if not loop.last }}
{% endfor %}
{%- endmacro %}

{% macro _dq_tests() %}{{ return(['meets_its_rules', 'finds_its_parents']) }}{% endmacro %}

{# The name of the test if a node is one of those. #}
{% macro _dq_test(node) %}
{%- set name = node.test_metadata.name if node.resource_type == 'test' and node.test_metadata else none -%}
{{ return(name if name in _dq_tests() else none) }}
{% endmacro %}

{# Before a run: mistakes in the rules, and the two tables. #}
{% macro dq_prepare() %}
{%- if execute and flags.WHICH in ['build', 'run', 'test'] -%}
{%- set tested = [] -%}
{%- for node in graph.nodes.values() if _dq_test(node) -%}{%- do tested.append(_dq_test(node) ~ ' ' ~ node.test_metadata.kwargs.rules_of) -%}{%- endfor -%}
{%- for name in var('dq') -%}
{%- do dq_validate(name) -%}
{%- for test in _dq_tests() if _dq_rules_of(name, test) and test ~ ' ' ~ name not in tested -%}
{%- do _dq_wrong(name, none, "no model has the test " ~ test ~ " with rules_of: " ~ name ~ ", so nothing would look at its rules") -%}
{%- endfor -%}
{%- endfor -%}
{%- do run_query('create schema if not exists dq') -%}
{%- do run_query(_dq_table('dq_results', {
  'run_id': 'varchar(64)', 'run_at': 'timestamp', 'step': 'varchar(16)', 'model_name': 'varchar(256)', 'rule_name': 'varchar(32)',
  'column_name': 'varchar(256)', 'definition': text_type(), 'severity': 'varchar(8)', 'checked': 'bigint', 'failed': 'bigint',
  'failed_share': 'numeric(18, 6)', 'status': 'varchar(8)', 'checked_until': 'timestamp',
})) -%}
{%- do run_query(_dq_table('quarantine', {
  'run_id': 'varchar(64)', 'found_at': 'timestamp', 'step': 'varchar(16)', 'model_name': 'varchar(256)', 'row_key': text_type(),
  'rule_name': 'varchar(32)', 'column_name': 'varchar(256)', 'definition': text_type(), 'failed_value': text_type(), 'severity': 'varchar(8)',
})) -%}
{%- endif -%}
{% endmacro %}

{% macro _dq_table(table, columns) -%}
create table if not exists {{ _dq_own(table) }} ({% for column, type in columns.items() %}{{ column }} {{ type }}{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}

{# After a run: what the tests have counted. First the rows, since the results say that they were looked at. #}
{% macro dq_record(results) %}
{%- if not execute -%}
{#- dbt has to see here which models this can read. -#}
{%- for name in var('dq') -%}
{%- do _dq_rows(name) -%}
{%- for rule in var('dq')[name].rules or [] if rule.to -%}{%- do dq_relation(rule.to) -%}{%- endfor -%}
{%- endfor -%}
{%- elif flags.WHICH in ['build', 'test'] -%}
{%- for result in results if _dq_test(result.node) and result.status in ['pass', 'fail'] -%}
{%- set name = result.node.test_metadata.kwargs.rules_of -%}
{%- set found = dq_quarantine_of(name, _dq_test(result.node)) | trim -%}
{%- if found -%}{%- do run_query('insert into ' ~ _dq_own('quarantine') ~ ' ' ~ found) -%}{%- endif -%}
{%- do run_query('insert into ' ~ _dq_own('dq_results') ~ ' ' ~ dq_results_of(name, _dq_test(result.node))) -%}
{%- endfor -%}
{%- set broken = run_query("select status, model_name, definition, failed, checked from " ~ _dq_own('dq_results') ~ " where run_id = '" ~ invocation_id ~ "' and status <> 'pass' order by 1, 2, 3") -%}
{%- for row in broken.rows -%}
{%- do log("data quality, " ~ row[0] ~ ": " ~ row[1] ~ " " ~ row[2] ~ ": " ~ row[3] ~ " of " ~ row[4], info=true) -%}
{%- endfor -%}
{%- endif -%}
{% endmacro %}
