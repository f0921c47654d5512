{{ config(unique_key='user_agent_id') }}
{%- set new -%}(select * from {{ ref('events') }} where loaded_at > {{ watermark(this) }}) as events{%- endset -%}
{%- if is_incremental() -%}{{ select_user_agents(new, this) }}{%- else -%}{{ select_user_agents(ref('events'), none) }}{%- endif -%}
