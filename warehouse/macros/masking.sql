{#
  Who sees what. A column with personal values has a class in `meta.pii`, where it appears first; the columns of the same name in models
  that are made from there have the same class. Readers get the models with `meta.shared`, and of them the columns that their `.yml`
  lists, in which what has a class is masked, except for the role landfall_pii.

  `dbt run-operation masking` prints the statements for the target, without a connection. With `--args '{run: true}'` it runs them.
  Snowflake: a tag with a masking policy, secure views in SHARED that have the tag, and a share of them. Redshift: masking policies on the
  tables, and grants of the columns. DuckDB, which has no roles: views in the schema `shared` that ask for the variable landfall_role.
#}
{% macro masking(run=false) %}
  {%- for statement in adapter.dispatch('masking_statements')() -%}
    {%- if run -%}{%- do run_query(statement) -%}{%- else -%}{{ print(statement ~ ';\n') }}{%- endif -%}
  {%- endfor -%}
{% endmacro %}

{# The classes, and what is seen of a value. `none` is for a column that looks personal and is not. #}
{% macro masks(value) %}
{%- set hidden = 'case when ' ~ value ~ " is not null then '*****' end" -%}
{{ return({
  'identifier': 'substring(' ~ sha256("'" ~ masking_salt() ~ "' || " ~ value) ~ ', 1, 16)',
  'email': "'*****@' || split_part(" ~ value ~ ", '@', 2)",
  'url': 'split_part(split_part(' ~ value ~ ", '?', 1), '#', 1)",
  'name': hidden,
  'user_agent': hidden,
  'ip': hidden,
  'phone': hidden,
  'card_number': hidden,
  'document': 'null',
}) }}
{% endmacro %}

{# Without a secret, everybody could compute the pseudonym of a client whose id they know. #}
{% macro masking_salt() %}
{%- set salt = env_var('LANDFALL_MASKING_SALT', 'local' if target.type == 'duckdb' else '') -%}
{%- if not salt -%}{{ exceptions.raise_compiler_error("Set LANDFALL_MASKING_SALT to a secret text, and keep it: with another one, clients have other pseudonyms.") }}{%- endif -%}
{{ return(salt | replace("'", "''")) }}
{% endmacro %}

{# The models that readers get: `name`, `relation`, and `columns` with the class of each, or none. #}
{% macro shared_models() %}
{%- set found = [] -%}
{%- for node in graph.nodes.values() | selectattr('resource_type', 'equalto', 'model') | sort(attribute='unique_id') -%}
  {%- if node.config.meta.shared -%}
    {%- set columns = {} -%}
    {%- for name in node.columns -%}{%- do columns.update({name: pii_of(node, name)}) -%}{%- endfor -%}
    {%- do found.append({'name': node.alias, 'relation': node.schema ~ '.' ~ node.alias, 'schema': node.schema, 'columns': columns, 'node': node}) -%}
  {%- endif -%}
{%- endfor -%}
{{ return(found) }}
{% endmacro %}

{# The class of a column: its own, or that of the same column of what the model is made from. None if it has none. #}
{% macro pii_of(node, column) %}
{%- set own = node.columns.get(column, {}).get('meta', {}).get('pii') -%}
{%- if own -%}
  {%- if own != 'none' and own not in masks('value') -%}
    {{ exceptions.raise_compiler_error(node.name ~ '.' ~ column ~ ' has the class ' ~ own ~ ': write none, ' ~ masks('value') | join(', ')) }}
  {%- endif -%}
  {{ return(none if own == 'none' else own) }}
{%- endif -%}
{%- for parent in node.get('depends_on', {}).get('nodes', []) -%}
  {%- set inherited = pii_of(graph.nodes.get(parent) or graph.sources[parent], column) -%}
  {%- if inherited -%}{{ return(inherited) }}{%- endif -%}
{%- endfor -%}
{{ return(none) }}
{% endmacro %}

{% macro default__masking_statements() %}
{%- set statements = ['create schema if not exists shared'] -%}
{%- for model in shared_models() -%}
  {%- set columns = [] -%}
  {%- for column, class in model.columns.items() -%}
    {%- set text = 'cast(' ~ column ~ ' as varchar)' -%}
    {%- do columns.append(
      "case when getvariable('landfall_role') = 'landfall_pii' then " ~ text ~ ' else ' ~ masks(text)[class] ~ ' end as ' ~ column if class else column
    ) -%}
  {%- endfor -%}
  {%- do statements.append('create or replace view shared.' ~ model.name ~ ' as select\n  ' ~ columns | join(',\n  ') ~ '\nfrom ' ~ model.relation) -%}
{%- endfor -%}
{{ return(statements) }}
{% endmacro %}

{#
  The tag is set in the statement that makes the view, so there is no moment without it. A role that a consumer of the share has is not
  known to IS_ROLE_IN_SESSION, which is null there: consumers see what is masked.
#}
{% macro snowflake__masking_statements() %}
{%- set database = target.database -%}
{%- set body = ["CASE", "  WHEN IS_ROLE_IN_SESSION('LANDFALL_PII') THEN value"] -%}
{%- for class, mask in masks('value').items() -%}
  {%- do body.append("  WHEN SYSTEM$GET_TAG_ON_CURRENT_COLUMN('" ~ database ~ ".shared.pii') = '" ~ class ~ "' THEN " ~ mask) -%}
{%- endfor -%}
{%- do body.extend(["  ELSE NULL", "END"]) -%}
{%- set body = body | join('\n') -%}
{%- set statements = [
  'USE ROLE landfall_rw',
  'USE SCHEMA ' ~ database ~ '.shared',
  "CREATE TAG IF NOT EXISTS pii COMMENT = 'Personal values, by their class'",
  'CREATE MASKING POLICY IF NOT EXISTS mask_text AS (value VARCHAR) RETURNS VARCHAR ->\n' ~ body,
  'ALTER MASKING POLICY mask_text SET BODY ->\n' ~ body,
  'ALTER TAG pii SET MASKING POLICY mask_text FORCE',
  'CREATE SHARE IF NOT EXISTS landfall',
  'GRANT USAGE ON DATABASE ' ~ database ~ ' TO SHARE landfall',
  'GRANT USAGE ON SCHEMA ' ~ database ~ '.shared TO SHARE landfall',
] -%}
{%- for model in shared_models() -%}
  {%- set names, values = [], [] -%}
  {%- for column, class in model.columns.items() -%}
    {%- do names.append(column ~ " WITH TAG (pii = '" ~ class ~ "')" if class else column) -%}
    {%- do values.append('CAST(' ~ column ~ ' AS VARCHAR) AS ' ~ column if class else column) -%}
  {%- endfor -%}
  {%- do statements.extend([
    'CREATE OR REPLACE SECURE VIEW ' ~ model.name ~ ' (\n  ' ~ names | join(',\n  ') ~ '\n)\nAS SELECT\n  ' ~ values | join(',\n  ')
      ~ '\nFROM ' ~ database ~ '.' ~ model.relation,
    'GRANT SELECT ON VIEW ' ~ model.name ~ ' TO ROLE landfall_ro',
    'GRANT SELECT ON VIEW ' ~ model.name ~ ' TO SHARE landfall',
  ]) -%}
{%- endfor -%}
{{ return(statements) }}
{% endmacro %}

{#
  A policy applies to the roles that it is attached to, and through views too. It is never attached to PUBLIC: dbt would read masked values
  then, and write them into the next table. The policy of a number hides it, since a mask has the type of its column.
#}
{% macro redshift__masking_statements() %}
{%- set statements = [] -%}
{%- set policies = {} -%}
{%- for class, mask in masks('value').items() -%}{%- do policies.update({'mask_' ~ class: ['VARCHAR(65535)', mask]}) -%}{%- endfor -%}
{%- do policies.update({'see_text': ['VARCHAR(65535)', 'value'], 'mask_number': ['BIGINT', 'NULL'], 'see_number': ['BIGINT', 'value']}) -%}
{%- for policy, (type, expression) in policies.items() -%}
  {%- set expression = 'CAST(' ~ expression ~ ' AS ' ~ type ~ ')' -%}
  {%- do statements.append('CREATE MASKING POLICY ' ~ policy ~ ' IF NOT EXISTS WITH (value ' ~ type ~ ') USING (' ~ expression ~ ')') -%}
  {%- do statements.append('ALTER MASKING POLICY ' ~ policy ~ ' USING (' ~ expression ~ ')') -%}
{%- endfor -%}
{%- for node in graph.nodes.values() | selectattr('resource_type', 'equalto', 'model') | sort(attribute='unique_id') -%}
  {%- if node.config.materialized in ('incremental', 'table') and node.schema != 'staging' -%}
    {%- for column in node.columns.values() -%}
      {%- set class = pii_of(node, column.name) -%}
      {%- set kind = 'number' if column.data_type and column.data_type.startswith(('bigint', 'integer', 'numeric')) else 'text' -%}
      {%- set at = ' ON ' ~ node.schema ~ '.' ~ node.alias ~ ' (' ~ column.name ~ ') TO ROLE ' -%}
      {%- if class and class != 'document' -%}
        {%- do statements.append('ATTACH MASKING POLICY mask_' ~ (class if kind == 'text' else kind) ~ at ~ 'landfall_ro PRIORITY 10') -%}
        {%- do statements.append('ATTACH MASKING POLICY see_' ~ kind ~ at ~ 'landfall_pii PRIORITY 20') -%}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endfor -%}
{%- for schema in shared_models() | map(attribute='schema') | unique -%}
  {%- do statements.append('GRANT USAGE ON SCHEMA ' ~ schema ~ ' TO ROLE landfall_ro') -%}
{%- endfor -%}
{%- for model in shared_models() -%}
  {%- do statements.append('GRANT SELECT (' ~ model.columns | join(', ') ~ ') ON ' ~ model.relation ~ ' TO ROLE landfall_ro') -%}
{%- endfor -%}
{{ return(statements) }}
{% endmacro %}
