{{ config(materialized='view') }}
select {{ (hit_columns() + ['rejected_for', 'loaded_at']) | join(', ') }}
from {{ ref('stg_hits') }}
where rejected_for is not null
