{{ config(unique_key='event_key', post_hook="{{ drop_twins_without_id() }}") }}
{{ stage_events(
  column='manufacturing_batch',
  types=['ManufacturingBatch'],
  fields=[
    {'name': 'batch_id', 'type': 'text'},
    {'name': 'sku', 'type': 'text'},
    {'name': 'production_date', 'type': 'timestamp'},
    {'name': 'quantity_produced', 'type': 'bigint'},
    {'name': 'defect_rate_estimate', 'type': 'decimal'},
  ],
) }}
