{{ config(materialized='view') }}
{{ cdc_history('sample') }}
