{{ config(materialized='view') }}
{{ cdc_latest('customers') }}
