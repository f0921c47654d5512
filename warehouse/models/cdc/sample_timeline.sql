{{ config(unique_key='cdc_key') }}
{{ cdc_timeline('sample') }}
