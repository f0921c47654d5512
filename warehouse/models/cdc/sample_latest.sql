{{ config(materialized='view') }}
{{ cdc_latest('sample') }}
