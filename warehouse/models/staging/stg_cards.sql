{{ config(unique_key='event_key', post_hook="{{ drop_twins_without_id() }}") }}
{{ stage_events(
  column='card_catalog_created',
  types=['CardCatalogCreated', 'CardCatalogEntryInserted'],
  fields=[
    {'name': 'sku', 'type': 'text'},
    {'name': 'card_name', 'type': 'text'},
    {'name': 'sport', 'type': 'text'},
    {'name': 'player_name', 'type': 'text'},
    {'name': 'team_name', 'type': 'text'},
    {'name': 'card_parallel', 'field': 'parallel', 'type': 'text'},
    {'name': 'print_run', 'type': 'integer'},
  ],
) }}
