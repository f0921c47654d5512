{{ config(alias='user_agents') }}
{%- set staged -%}({{ select_user_agents(ref('hits_staged'), ref('user_agents')) }}) as staged{%- endset -%}
{{ select_live(ref('user_agents'), 'user_agent_id', staged, user_agent_columns()) }}
