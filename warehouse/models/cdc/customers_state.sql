{{ config(unique_key='cdc_key') }}
{{ cdc_state('customers') }}
