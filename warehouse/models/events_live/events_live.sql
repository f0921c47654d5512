{{ config(alias='events') }}
{{ select_live(ref('events'), 'event_id', ref('hits_staged'), hit_columns() + ['loaded_at']) }}
