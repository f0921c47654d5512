{#
  The events of one type: those of the stream and those of the backfill, with typed columns, each once.

  The files of `landfall backfill` are in the raw table of the stream, whose columns they have, and are told apart by their folder, or by the
  name of their manifest in Redshift.
  `column` is that of the raw table, and `types` are the names by which an export of JSON calls the type. A field has a name, the name of its
  protobuf field if that is another one, and a type: text, integer, bigint, timestamp, or decimal, a message with units and scale.

  Copies of an event have the same `event_key`: the producer's own id, or without one the hash of the canonical payload, which is
  the same for the stream and for the backfill. Of copies, one from the stream is kept, and the one that was recorded first, so the
  result does not depend on the order in which files arrive.
#}
{% macro stage_events(column, types, fields) %}
{%- set columns = ['event_key', 'producer_id', 'delivery_id', 'origin', 'source', 'recorded_at'] -%}
{%- for field in fields -%}
  {%- do columns.append(field.name) -%}
  {%- if field.type == 'decimal' -%}{%- do columns.extend([field.name ~ '_units', field.name ~ '_scale']) -%}{%- endif -%}
{%- endfor -%}
{%- do columns.extend(['payload_hash', 'loaded_at']) -%}
with new_files as (
  select source_name, file, loaded_at
  from {{ ref('files') }}
  {%- if is_incremental() %}
  where loaded_at > {{ watermark(this) }}
  {%- endif %}
),
delivered as (
  select
    case when e.event_id <> e.message_id then e.event_id end as producer_id,
    e.message_id as delivery_id,
    case when e._file like '%events_backfill%' then 'backfill' else 'stream' end as origin,
    e.source,
    {{ utc('e.sent_at') }} as recorded_at,
    e.{{ column }} as payload,
    f.loaded_at
  from {{ source('raw', 'events') }} as e
  inner join new_files as f on f.source_name = 'events' and f.file = e._file
  where e.{{ column }} is not null
  union all
  select
    b.event_id as producer_id,
    null as delivery_id,
    'backfill' as origin,
    b.source,
    {{ utc('b.occurred_at') }} as recorded_at,
    b.payload,
    f.loaded_at
  from {{ source('raw', 'events_backfill') }} as b
  inner join new_files as f on f.source_name = 'events_backfill' and f.file = b._file
  where b.type in ({% for type in types %}'{{ type }}', 'landfall.events.v1.{{ type }}'{{ ', ' if not loop.last }}{% endfor %})
),
texts as (
  select
    producer_id,
    delivery_id,
    origin,
    source,
    recorded_at,
    {%- for field in fields %}
    {%- if field.type == 'decimal' %}
    {{ json_text('payload', [field.name, 'units']) }} as {{ field.name }}_units,
    {{ json_text('payload', [field.name, 'scale']) }} as {{ field.name }}_scale,
    {%- else %}
    {{ json_text('payload', [field.field or field.name]) }} as {{ field.name }},
    {%- endif %}
    {%- endfor %}
    loaded_at
  from delivered
),
typed as (
  select
    producer_id,
    delivery_id,
    origin,
    source,
    recorded_at,
    {%- for field in fields %}
    {{ _typed(field) }},
    {%- endfor %}
    loaded_at
  from texts
),
hashed as (
  select
    typed.*,
    {{ sha256(_canonical(fields)) }} as payload_hash
  from typed
),
keyed as (
  select
    hashed.*,
    case when producer_id is null then 'payload:' || payload_hash else 'id:' || producer_id end as event_key
  from hashed
),
candidates as (
  select {{ columns | join(', ') }} from keyed
  {%- if is_incremental() %}
  union all
  select {{ columns | join(', ') }} from {{ this }} where event_key in (select event_key from keyed)
  {%- endif %}
)
select {{ columns | join(', ') }}
from candidates
qualify row_number() over (
  partition by event_key
  order by case origin when 'stream' then 0 else 1 end, recorded_at, delivery_id, payload_hash, loaded_at
) = 1
{% endmacro %}

{% macro _typed(field) -%}
{%- if field.type == 'text' -%}
{{ field.name }}
{%- elif field.type == 'timestamp' -%}
{{ utc_of_text(field.name) }} as {{ field.name }}
{%- elif field.type in ('integer', 'bigint') -%}
{{ try_cast_text(field.name, field.type) }} as {{ field.name }}
{%- elif field.type == 'decimal' -%}
{{ exact_decimal(field.name ~ '_units', field.name ~ '_scale') }} as {{ field.name }},
    {{ field.name }}_units,
    {{ field.name }}_scale
{%- else -%}
{{ exceptions.raise_compiler_error(field.name ~ " has the type " ~ field.type ~ ": write text, integer, bigint, timestamp or decimal") }}
{%- endif -%}
{%- endmacro %}

{# The length of each value before it, so that two payloads never have the same text. #}
{% macro _canonical(fields) -%}
{%- for field in fields -%}
{%- set text = 'cast(' ~ field.name ~ ' as ' ~ text_type() ~ ')' -%}
coalesce(cast(length({{ text }}) as {{ text_type() }}) || ':' || {{ text }}, '-'){{ " || " if not loop.last }}
{%- endfor -%}
{%- endmacro %}

{#
  An event without an id that is there with an id, too, is the same event. Which of them came first must not matter, so the one
  without goes whenever both are there: from the table, and from what was made of it.
#}
{% macro drop_twins_without_id() -%}
delete from {{ this }}
where producer_id is null and payload_hash in (select payload_hash from {{ this }} where producer_id is not null)
{%- endmacro %}

{% macro drop_what_is_not_in(relation) -%}
delete from {{ this }}
where event_key like 'payload:%' and event_key not in (select event_key from {{ relation }})
{%- endmacro %}
