{# What the next run would put into quarantine. #}
{%- set found = [] -%}
{%- for name in var('dq') -%}
{%- for test in _dq_tests() if dq_quarantine_of(name, test) | trim -%}{%- do found.append(dq_quarantine_of(name, test) | trim) -%}{%- endfor -%}
{%- endfor -%}
{{ found | join('\nunion all\n') }}
