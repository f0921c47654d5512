{{ config(materialized='view') }}
select {{ (hit_columns() + ['loaded_at']) | join(', ') }}
from {{ ref('stg_hits') }}
where rejected_for is null
