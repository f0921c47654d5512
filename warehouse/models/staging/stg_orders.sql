{{ config(unique_key='event_key', post_hook="{{ drop_twins_without_id() }}") }}
{{ stage_events(
  column='order_created',
  types=['OrderCreated'],
  fields=[
    {'name': 'order_id', 'type': 'text'},
    {'name': 'order_ts', 'type': 'timestamp'},
    {'name': 'customer_id', 'type': 'text'},
    {'name': 'sku', 'type': 'text'},
    {'name': 'quantity', 'type': 'integer'},
    {'name': 'price', 'type': 'decimal'},
    {'name': 'status', 'type': 'text'},
  ],
) }}
