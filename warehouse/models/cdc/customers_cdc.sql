{{ config(incremental_strategy='append') }}
{{ cdc_changes('customers') }}
