{{ config(unique_key='period_start') }}
{{ select_overview('hour', this if is_incremental() else none) }}
