{{ config(alias='logs') }}
{{ select_live(ref('logs'), 'event_id', ref('logs_staged'), log_columns()) }}
