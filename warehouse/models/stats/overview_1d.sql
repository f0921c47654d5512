{{ config(unique_key='period_start') }}
{{ select_overview('day', this if is_incremental() else none) }}
