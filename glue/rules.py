"""What becomes what: the rules that load-ingester has, in its README as tables. No I/O here, and no Spark."""

import base64
import hashlib
import io
import json
import re
from collections import Counter
from datetime import date, datetime
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import lru_cache, partial
from operator import itemgetter
from types import FunctionType
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PARQUET = {"compression": "zstd", "compression_level": 1, "store_schema": False, "store_decimal_as_integer": True}
GROUP_ROWS, LONGEST_CUT = 1 << 17, 256 << 20
SPACE, LONGEST_RECORD, KEPT_BYTES = " \t\n\r\f", 16 << 20, 64 << 10
EXACT = Context(prec=1 << 24, Emin=MIN_EMIN, Emax=MAX_EMAX)
EPOCH, DAY_US = date(1970, 1, 1).toordinal(), 86_400_000_000
INTEGER = re.compile(r"[+-]?[0-9]{1,4000}").fullmatch
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,15})?").fullmatch
DAY, CLOCK = "([0-9]{4}-[0-9]{2}-[0-9]{2})", "([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:[.,]([0-9]+))?"
ZONE = "(?:[Zz]|([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?)?"
DATE, TIME = re.compile(f"{DAY}(?:[ Tt]{CLOCK})?").fullmatch, re.compile(CLOCK).fullmatch
TIMESTAMP = re.compile(f"{DAY}(?:[ Tt]{CLOCK}{ZONE})?").fullmatch
WORDS = {"t": True, "true": True, "1": True, "yes": True, "f": False, "false": False, "0": False, "no": False}


class Refused(Exception):
    """A value, a record, an object or a step that is refused: why, and of a record the field and the value."""


def need(is_so, *why):
    if not is_so:
        raise Refused(*why)


def integer(low, high, text):
    need(INTEGER(text), "not_an_integer")
    need(low <= int(text) <= high, "out_of_range")
    return int(text)


def exact(precision, scale, text):
    need(NUMBER(text), "not_a_decimal")
    if not (number := EXACT.normalize(Decimal(text))):
        return Decimal(0)
    _, digits, exponent = number.as_tuple()
    need(len(digits) <= 38, "out_of_range")
    need(-exponent <= scale, "too_many_decimals")
    need(len(digits) + exponent <= precision - scale, "out_of_range")
    return number


def real(limit, text):
    """The text, which Arrow makes a number of, with a single rounding."""
    need(NUMBER(text), "not_a_number")
    need(abs(float(text)) < limit, "out_of_range")
    return text.lstrip("+")


def boolean(text):
    need(text.lower() in WORDS, "not_a_boolean")
    return WORDS[text.lower()]


@lru_cache(1 << 16)
def days(text, reason):
    try:
        return date.fromisoformat(text).toordinal() - EPOCH
    except ValueError:
        raise Refused(reason) from None


def micros(hour, minute, second, fraction):
    clock = (int(hour) * 60 + int(minute)) * 60 + int(second) if hour else 0
    return clock * 1_000_000 + int((fraction or "")[:6].ljust(6, "0"))


def day(text):
    need(match := DATE(text), "not_a_date")
    need(micros(*match.groups()[1:]) == 0, "not_a_date")
    return days(match[1], "not_a_date")


def clock(text):
    need(match := TIME(text), "not_a_time")
    return micros(*match.groups())


def moment(text):
    need(match := TIMESTAMP(text), "not_a_timestamp")
    *local, sign, hours, minutes = match.groups()
    ahead = int(f"{sign}1") * (int(hours) * 60 + int(minutes or 0)) * 60_000_000 if sign else 0
    utc = days(local[0], "not_a_timestamp") * DAY_US + micros(*local[1:]) - ahead
    need((1 - EPOCH) * DAY_US <= utc < (date.max.toordinal() + 1 - EPOCH) * DAY_US, "out_of_range")
    return utc


# How values are usually written, and Arrow reads them at once and in the same way.
USUAL_DAY, USUAL_CLOCK = "[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}", "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
USUAL = {
    (integer, -(2**31), 2**31 - 1): "^-?[0-9]{1,9}$",
    (integer, -(2**63), 2**63 - 1): "^-?[0-9]{1,18}$",
    (real, float("inf")): "^-?[0-9]{1,17}(\\.[0-9]{1,20})?$",
    boolean: "^(true|false)$",
    day: f"^{USUAL_DAY}$",
    clock: f"^{USUAL_CLOCK}(\\.[0-9]+)?$",
    moment: f"^{USUAL_DAY}[ T]{USUAL_CLOCK}(\\.[0-9]+)?$",
}

# The type of a column in Arrow, the type that its values are collected in, and what reads one; None for text.
TEXT, I32, I64, D20 = (pa.string(), pa.string(), None), pa.int32(), pa.int64(), pa.decimal128(20, 0)
KINDS = {
    "int1": (I32, I32, partial(integer, -(2**7), 2**7 - 1)),
    "int2": (I32, I32, partial(integer, -(2**15), 2**15 - 1)),
    "int4": (I32, I32, partial(integer, -(2**31), 2**31 - 1)),
    "int8": (I64, I64, partial(integer, -(2**63), 2**63 - 1)),
    "uint1": (I32, I32, partial(integer, 0, 2**8 - 1)),
    "uint2": (I32, I32, partial(integer, 0, 2**16 - 1)),
    "uint4": (I64, I64, partial(integer, 0, 2**32 - 1)),
    "uint8": (D20, D20, partial(integer, 0, 2**64 - 1)),
    "real4": (pa.float32(), pa.string(), partial(real, 2.0**128 - 2.0**103)),
    "real8": (pa.float64(), pa.string(), partial(real, float("inf"))),
    "boolean": (pa.bool_(), pa.bool_(), boolean),
    "date": (pa.date32(), I32, day),
    "time": (pa.time64("us"), I64, clock),
    "timestamp": (pa.timestamp("us"), I64, moment),
    "text": TEXT,
}
OTHER_NAMES = {
    **dict.fromkeys(["wstring", "clob", "nclob", "blob", "bytes", "string", "varchar", "char", "json"], "text"),
    **{
        "tinyint": "int1",
        "smallint": "int2",
        "integer": "int4",
        "int": "int4",
        "bigint": "int8",
        "datetime": "timestamp",
    },
    **{"real": "real4", "float4": "real4", "double": "real8", "double precision": "real8", "float": "real8"},
    **{"float8": "real8", "bool": "boolean"},
}


def kind(declared):
    """What a `.dfm` or a declaration calls so; None if nothing is."""
    name, bracket, digits = declared.strip().lower().partition("(")
    name, numbers = name.strip(), re.fullmatch(r"\s*([0-9]+)\s*(?:,\s*([0-9]+)\s*)?\)", digits)
    if name in ("decimal", "numeric", "number") and numbers:
        precision, scale = int(numbers[1]), int(numbers[2] or 0)
        is_one = 1 <= precision <= 38 and scale <= precision
        return (pa.decimal128(precision, scale),) * 2 + (partial(exact, precision, scale),) if is_one else None
    found = KINDS.get(OTHER_NAMES.get(name, name))
    return found if not bracket or numbers and found is TEXT else None


class Dialect(NamedTuple):
    """How a CSV file separates and quotes its fields, as a `.dfm` says it."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    end: str = "\n"
    null: str = ""

    def field(self, group):
        """The pattern of a field: what is quoted, if it begins with a quote, and the rest."""
        delimiter, quote, escape, end = (re.escape(one) for one in self[:4])
        plain, inner = f"[^{delimiter}{end}{escape}]*", f"[^{quote}{escape}]*"
        rest = plain + (f"(?:{escape}(?:.|\\Z){plain})*" if escape else "")
        doubled = f"{quote}{quote}" + (f"|{escape}." if escape else "")
        quoted = f"{quote}{inner}(?:(?:{doubled}){inner})*{quote}(?!{quote})"
        return f"(?:{group}{quoted})|(?!{quote})){group}{rest})" if quote else f"{group}){group}{rest})"

    def is_plain(self, block):
        quote, escape = self.quote.encode(), self.escape.encode()
        return not (quote and quote in block or escape and escape in block)


def records(block, line, dialect):
    """Of each record of a block: the line that it begins in, its bytes, where the next one begins, and what ends it."""
    end, is_plain, field, at = dialect.end.encode(), dialect.is_plain(block), dialect.field("(?:"), 0
    whole = re.compile(f"{field}(?:{re.escape(dialect.delimiter)}{field})*".encode(), re.DOTALL)
    while at < len(block):
        match = None if is_plain else whole.match(block, at)
        stop = block.find(end, at) if is_plain else match.end() if match else at
        stop = stop if stop >= 0 else len(block)
        if stop < len(block) and block[stop : stop + 1] != end or not is_plain and not match:
            yield line, block[at:], len(block), "quote"
            return
        has_return = stop > at and end == b"\n" and block[stop - 1 : stop] == b"\r"
        behind = min(stop + 1, len(block))
        yield line, block[at : stop - has_return], behind, "line" if stop < len(block) else "block"
        line, at = line + (1 if is_plain else block.count(end, at, behind)), behind


def whole_records(block, dialect):
    """Where the last line ends that ends a record; 0 if none does."""
    if dialect.is_plain(block):
        return block.rfind(dialect.end.encode()) + 1
    record, at = f"{dialect.field('(?:')}(?:{re.escape(dialect.delimiter)}{dialect.field('(?:')})*", 0
    many = re.compile(f"(?:{record}{re.escape(dialect.end)}){{1,1000}}".encode(), re.DOTALL)
    while match := many.match(block, at):
        at = match.end()
    return at


def blocks(read, size, dialect):
    """Blocks of whole records, each with the line that it begins in."""
    line, waiting = 1, read(size).removeprefix(b"\xef\xbb\xbf")
    while waiting:
        more = read(size)
        end = whole_records(waiting, dialect) if more else len(waiting)
        need(end or len(waiting) < LONGEST_CUT, "record_too_long")
        if end:
            yield line, waiting[:end]
        line, waiting = line + waiting.count(dialect.end.encode(), 0, end), waiting[end:] + more


def csv_fields(dialect):
    """Takes a record apart. Null is None."""
    delimiter, quote, escape, _, null = dialect
    fields = re.compile(dialect.field("(") + re.escape(delimiter), re.DOTALL).findall
    escaped = re.compile(f"{re.escape(escape)}(.?)" if escape else "(?!)()", re.DOTALL)
    inner = re.compile(re.escape(quote * 2) + (f"|{re.escape(escape)}(.)" if escape else "()"), re.DOTALL)

    def text(quoted, rest):
        if not quoted:
            return None if rest == null else escaped.sub(r"\1", rest) if escape else rest
        if not escape:
            return quoted[1:-1].replace(quote * 2, quote) + rest
        return inner.sub(lambda match: match[1] or quote, quoted[1:-1]) + escaped.sub(r"\1", rest)

    def split(record):
        if dialect.is_plain(record):
            return [None if field == null else field for field in as_text(record).split(delimiter)]
        return [text(*field) for field in fields(as_text(record) + delimiter)]

    return split


def as_text(value):
    return value.decode(errors="surrogateescape")


def as_bytes(text):
    return text.encode(errors="surrogateescape")


def is_damaged(text):
    """Whether a text comes from bytes that are no UTF-8."""
    return text is not None and not text.isascii() and text.encode(errors="replace") != as_bytes(text)


DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=lambda word: need(False, "not_json"))


def json_fields(names):
    """Takes a line apart: the members of these names, and the rest; without names the line as it stands."""

    def split(record):
        text = as_text(record)
        need(not is_damaged(text), "invalid_utf8", None, shortened(record))
        try:
            is_object = isinstance(DECODER.decode(text), dict)
            need(names is None or is_object, "not_an_object")
            if names is None:
                return [text]
            found, rest = dict.fromkeys(names), []
            for name, value in members(text):
                if name in found:
                    found[name] = None if value == "null" else DECODER.decode(value) if value[0] == '"' else value
                    str(found[name]).encode()
                else:
                    rest.append(f"{json.dumps(name, ensure_ascii=False)}:{value}")
            return [*found.values(), "{" + ",".join(rest) + "}" if rest else None]
        except (ValueError, RecursionError):
            raise Refused("not_json", None, shortened(record)) from None
        except Refused as refused:
            raise Refused(refused.args[0], None, shortened(record)) from None

    return split


def members(text):
    """The members of an object that is known to be one: names, and values as they stand."""
    space = json.decoder.WHITESPACE.match
    at = space(text, text.index("{") + 1).end()
    while text[at] != "}":
        name, at = DECODER.raw_decode(text, at)
        name.encode()
        at = space(text, space(text, at).end() + 1).end()
        _, end = DECODER.raw_decode(text, at)
        yield name, text[at:end]
        at = space(text, end).end()
        at = space(text, at + 1).end() if text[at] == "," else at


def shortened(value):
    """The first KiB, without a character that would be cut."""
    short = value[:1024].decode(errors="replace")
    return short if len(value) <= 1024 else short.rstrip("\ufffd")


def layout(names, declared, changes):
    """Name, type and field of each column, for an object whose header has these names; which are missing, which are new."""
    need(len(set(names) - {""}) == sum(name != "" for name in names), "invalid_header")
    fields = {name: names.index(name) for name, _ in declared or () if name in names}
    for name, _ in declared or ():
        free = [at for at, other in enumerate(names) if at not in fields.values() and other.lower() == name.lower()]
        fields.setdefault(name, free[0] if free else None)
    typed = [(name, type_of_change(name, changes) or declared_as, fields[name]) for name, declared_as in declared or ()]
    others = [(name or f"column_{at + 1}", at) for at, name in enumerate(names) if at not in fields.values()]
    first = [(name, type_of_change(name, changes), at) for name, at in others if type_of_change(name, changes)]
    added = [(name, "text", at) for name, at in others if not type_of_change(name, changes)]
    missing = [name for name, _, field in typed if field is None]
    return unique(first + typed + added), missing, [name for name, _, _ in added] if declared is not None else []


def type_of_change(name, changes):
    """Columns that say what happened to a row have the same types in all files."""
    if changes and name.lower().startswith("header__"):
        return {"header__change_seq": "decimal(35,0)", "header__timestamp": "timestamp"}.get(name.lower(), "text")
    return None


def unique(columns):
    """Numbers the names that another column has, whatever the case."""
    taken = set()
    for at, (name, *rest) in enumerate(columns):
        names = [name, *(f"{name}_{number}" for number in range(2, len(columns) + 2))]
        columns[at] = (next(name for name in names if name.lower() not in taken), *rest)
        taken.add(columns[at][0].lower())
    return columns


def plan_of(load, dfm):
    """How the object of a load is written, and what is declared."""
    end = re.search(r"\.(csv|json)(\.gz)?$", load["s3_key"], re.IGNORECASE)
    need(end, "unknown_format")
    dialect, declared, records = Dialect(), None, None
    try:
        if dfm:
            dialect, declared, records = read_dfm(json.loads(dfm))
        if load["columns"] is not None:
            declared, records = [(column["name"], column["type"]) for column in load["columns"]], None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused("columns_unusable") from None
    names = [name for name, _ in declared or ()]
    need(len(set(names)) == len(names) and "" not in names, "columns_unusable")
    need(all(kind(type_) for _, type_ in declared or ()), "columns_unusable")
    about = (("load", "id"), ("table", "table"), ("key", "s3_key"), ("etag", "s3_etag"))
    footer = {f"landfall.{name}": str(load[member]) for name, member in about}
    plan = {"dialect": dialect, "declared": declared, "records": records, "changes": load["changes"], "footer": footer}
    plan |= {"on_misfit": load["on_misfit"], "names": None, "missing": [], "added": []}
    if end[1].lower() == "json":
        names = names if declared is not None else None
        last = [("record" if names is None else "_rest", "text")]
        columns = [(name, type_, at) for at, (name, type_) in enumerate([*(declared or ()), *last])]
        plan |= {"dialect": Dialect("", "", ""), "columns": unique(columns), "names": names, "is_json": True}
    return plan


def read_dfm(dfm):
    """The dialect, the columns and the number of records that a `.dfm` names."""
    given = (dfm.get("formatInfo") or {}).get("options") or {}
    quote, escape = given.get("quoteChar"), given.get("escapeChar") or ""
    quote = '"' if quote is None else quote
    end = (given.get("recordDelimiter") or "\n").replace("\r\n", "\n")
    escape = "" if escape == quote else escape
    dialect = Dialect(given.get("fieldDelimiter") or ",", quote, escape, end, given.get("nullValue") or "")
    special = [one for one in dialect[:4] if one]
    need(len(set(special)) == len(special), "columns_unusable")
    need(all(len(one) == 1 and one.isascii() and one != "\r" for one in special), "columns_unusable")
    columns = sorted(dfm["dataInfo"]["columns"], key=itemgetter("ordinal"))
    count = (dfm.get("fileInfo") or {}).get("recordCount")
    records = count if count is None or count >= 0 else None
    return dialect, [(column["name"], type_of_dfm(column)) for column in columns], records


def type_of_dfm(column):
    """What no type of Parquet represents is text."""
    name, digits = column["type"], (column.get("precision", 0), column.get("scale", 0))
    if name.lower() == "numeric":
        name = "numeric({},{})".format(*digits)
        return name if kind(name) else "text"
    return name if "(" not in name and kind(name) else "text"


def dfm_key(key):
    return re.sub(r"\.(csv|json)(\.gz)?$", "", key, flags=re.IGNORECASE) + ".dfm"


def companion(versions, key, dfm, at):
    """The version of a `.dfm` that was written with the object: the first one after it and before the object's next version,
    or else the last one before, or else the first one after. And whether it is the object's own. `at`: when that was written."""
    seconds = [(int(one["LastModified"].timestamp()), one) for one in versions]
    following = min((second for second, one in seconds if one["Key"] == key and second > int(at)), default=float("inf"))
    named = sorted((pair for pair in seconds if pair[1]["Key"] == dfm), key=itemgetter(0))
    own = [one for second, one in named if int(at) <= second < following]
    before = [one for second, one in named if second < int(at)]
    after = [one for second, one in named if second >= int(at)]
    return next(iter(own[:1] + before[-1:] + after[:1]), None), bool(own)


def header(plan, line, block):
    """Takes the header off the first block, and adds the columns to the plan."""
    found = ((at, record, behind, by) for at, record, behind, by in records(block, line, plan["dialect"]) if record)
    _, record, behind, ended_by = next(found, (line, b"", len(block), "block"))
    need(ended_by != "quote" and len(record) <= LONGEST_RECORD, "invalid_header")
    names = [name or "" for name in csv_fields(plan["dialect"]._replace(null="\0"))(record)] if record else []
    need(not any(map(is_damaged, names)), "invalid_header")
    plan["columns"], plan["missing"], plan["added"] = layout(names, plan["declared"], plan["changes"])
    return line + block.count(plan["dialect"].end.encode(), 0, behind), block[behind:]


def rows(block, line, plan):
    """Of each record: the line that it begins in, its bytes, and its fields; or no fields, and why, the column and the value."""
    is_json = plan.get("is_json")
    split = json_fields(plan["names"]) if is_json else csv_fields(plan["dialect"])
    fields = sorted((field, name) for name, _, field in plan["columns"] if field is not None)
    for at, record, _, ended_by in records(block, line, plan["dialect"]):
        if not (record.strip() if is_json else record or len(fields) == 1):
            continue
        try:
            need(len(record) <= LONGEST_RECORD, "too_long", None, "")
            need(ended_by != "quote", "unclosed_quote", None, "")
            values = split(record)
            if len(values) != len(fields):
                reason = "too_few_fields" if len(values) < len(fields) else "too_many_fields"
                raise Refused(reason, None, str(len(values)))
            if not is_json and not record.isascii() and is_damaged(as_text(record)):
                for field, name in fields:
                    need(not is_damaged(values[field]), "invalid_utf8", name, shortened(as_bytes(values[field] or "")))
            yield at, record, values, None
        except Refused as refused:
            yield at, record, None, refused.args


def column_of(texts, kind):
    """A column, if all values are written as usual. None if each has to be looked at."""
    arrow, _, read = kind
    column = pa.array(texts, pa.string())
    if read is None:
        return column
    if pa.types.is_decimal(arrow) and arrow.scale < arrow.precision:
        fraction = f"(\\.[0-9]{{1,{arrow.scale}}})?" if arrow.scale else ""
        shape = f"^-?[0-9]{{1,{arrow.precision - arrow.scale}}}{fraction}$"
    else:
        shape = USUAL.get(read if isinstance(read, FunctionType) else (read.func, *read.args))
    try:
        if not shape or pc.all(pc.match_substring_regex(column, shape)).as_py() is False:
            return None
        if read is clock:
            column = pc.binary_join_element_wise("1970-01-01", column, " ")
        if read in (clock, moment):
            column = pc.utf8_slice_codeunits(column, 0, 26).cast(pa.timestamp("us"))
        return column.cast(arrow)
    except pa.ArrowInvalid:
        return None


def typed(group, plan, kinds, counts):
    """The rows of a group whose values fit, and what does not."""
    fields = [(field, name, kind[2]) for (name, _, field), kind in zip(plan["columns"], kinds, strict=True) if kind[2]]
    fields = sorted((one for one in fields if one[0] is not None), key=itemgetter(0))
    fit, misfits = [], []
    for line, record, values in group:
        try:
            for field, name, read in fields:
                if (text := values[field]) is not None:
                    try:
                        values[field] = read(stripped) if (stripped := text.strip(SPACE)) else None
                    except Refused as refused:
                        need(plan["on_misfit"] == "null", refused.args[0], name, shortened(text.encode()))
                        values[field] = None
                        counts["nulled"] += 1
            fit.append(values)
        except Refused as refused:
            reason, column, value = refused.args
            misfits.append((line, column, value, reason, record))
    return fit, misfits


def parquet(block, line, plan):
    """A Parquet file of a block, the numbers of its rows, bytes and values that became null, and what does not fit."""
    counts, misfits, group, file, columns = Counter(rows=0, nulled=0, bytes=0), [], [], io.BytesIO(), plan["columns"]
    kinds = [kind(declared) for _, declared, _ in columns]
    schema = pa.schema([(name, found[0]) for (name, *_), found in zip(columns, kinds, strict=True)])
    most = 0 if plan["on_misfit"] == "fail" else plan["most_misfits"]

    def write(writer):
        fields, arrays = list(zip(*(values for *_, values in group), strict=True)), []
        for (_, _, field), found in zip(columns, kinds, strict=True):
            is_there = field is not None
            arrays.append(column_of(fields[field], found) if is_there else pa.nulls(len(group), found[0]))
        if any(array is None for array in arrays):
            fit, more = typed(group, plan, kinds, counts)
            misfits.extend(more)
            fields, arrays = list(zip(*fit, strict=True)) or [()] * len(columns), []
            for (_, _, field), (arrow, collected, _) in zip(columns, kinds, strict=True):
                is_there = field is not None
                arrays.append(pa.array(fields[field], collected).cast(arrow) if is_there else pa.nulls(len(fit), arrow))
        if len(arrays[0]):
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        counts["rows"] += len(arrays[0])
        group.clear()

    with pq.ParquetWriter(file, schema, **PARQUET) as writer:
        for at, record, values, why in rows(block, line, plan):
            if why:
                reason, column, value = why
                misfits.append((at, column, value, reason, record[:KEPT_BYTES] if reason == "too_long" else record))
            else:
                group.append((at, record, values))
            if len(group) == GROUP_ROWS:
                write(writer)
            if len(misfits) > most:
                break
        if group:
            write(writer)
        writer.add_key_value_metadata(plan["footer"])
    counts["bytes"] = len(file.getvalue()) if counts["rows"] else 0
    return file.getvalue(), counts, sorted(misfits, key=itemgetter(0))


def quarantined(load, misfits):
    """Keys and bytes of the objects that keep rows which do not fit: a thousand in each, named by what is in them."""
    sent = datetime.fromisoformat(load["s3_modified"].replace("Z", "+00:00"))
    millis = f"{sent.microsecond // 1000:03}Z"
    for first in range(0, len(misfits), 1000):
        kept = [described(load, f"{sent:%Y-%m-%dT%H:%M:%S}.{millis}", one) for one in misfits[first : first + 1000]]
        kept.sort(key=itemgetter("id", "body_base64"))
        identity = "".join(sorted(f"{record['id']} {record['body_base64']}\n" for record in kept))
        name = f"{sent:%Y%m%dT%H%M%S}{millis}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        body = "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in kept)
        yield f"quarantine/load-ingester/{sent:%Y/%m/%d}/{name}.ndjson", body.encode()


def described(load, sent_at, misfit):
    """A row that does not fit, as the quarantine keeps it."""
    line, column, value, reason, record = misfit
    where = f"line {line}" + (f", column {column}" if column is not None else "")
    about = {"column": column, "key": load["s3_key"], "line": line, "load": load["id"], "table": load["table"]}
    return {
        "function": "load-ingester",
        "reason": reason,
        "detail": f"{where}: {reason}: {json.dumps(value, ensure_ascii=False)}",
        "id": f"{load['id']}:{line}",
        "sent_at": sent_at,
        "attributes": {**about, "value": value},
        "body_base64": base64.b64encode(record).decode(),
    }
