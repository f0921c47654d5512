{{ config(materialized='view') }}
{{ cdc_history('customers') }}
