//! One record of CSV → its fields, as ranges of bytes.
//!
//! What quotes mean follows what most readers do: a quote opens a field only as its first byte, a doubled quote is a quote, and text
//! behind the closing quote belongs to the field.

use std::ops::Range;

use memchr::{memchr, memchr2, memchr3};

use super::super::dialect::Dialect;

/// Where a field is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    range: Range<usize>,
    /// Whether the range is one of the unescaped bytes, not of the record.
    is_unescaped: bool,
    /// Whether the field has quotes around it.
    is_quoted: bool,
    /// Whether the field is what stands for null: then it has no quotes.
    pub is_null: bool,
}

impl Span {
    /// Whether the field cannot contain the end of a line.
    pub(super) const fn is_within_a_line(&self) -> bool {
        !self.is_quoted && !self.is_unescaped
    }
}

/// The fields of one record. The memory is used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Fields {
    spans: Vec<Span>,
    /// Fields with a doubled quote or an escaped character, without these.
    unescaped: Vec<u8>,
}

/// What was found at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// A record of so many bytes, which takes `consumed` with the end of its line.
    Record { bytes: usize, consumed: usize },
    /// The file ends in a quoted field.
    Unclosed,
    /// The record goes on behind the bytes.
    Incomplete,
}

/// Where a field ends.
enum End {
    /// At a delimiter.
    Field(usize),
    /// At the end of the record, which takes `consumed` bytes with what terminates it.
    Record { at: usize, consumed: usize },
}

impl Fields {
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The bytes of a field of `record`.
    pub(super) fn text<'a>(&'a self, record: &'a [u8], span: &Span) -> &'a [u8] {
        let bytes = if span.is_unescaped { &*self.unescaped } else { record };
        bytes.get(span.range.clone()).unwrap_or_default()
    }

    /// Splits the record that `bytes` begin with. `is_at_end`: nothing comes behind them.
    pub(super) fn split(&mut self, bytes: &[u8], is_at_end: bool, dialect: &Dialect) -> Split {
        self.spans.clear();
        self.unescaped.clear();
        let mut from = 0;
        loop {
            let quoted = dialect.quote.is_some() && bytes.get(from).copied() == dialect.quote;
            let closed = if quoted {
                match Quoted::find(bytes, from, dialect) {
                    Some(closed) => Some(closed),
                    None if is_at_end => return Split::Unclosed,
                    None => return Split::Incomplete,
                }
            } else {
                None
            };
            let rest = closed.as_ref().map_or(from, |closed| closed.behind);
            let Some((end, has_escape)) = find_end(bytes, rest, is_at_end, dialect) else { return Split::Incomplete };
            match end {
                End::Field(at) => {
                    self.push(bytes, from..at, closed, has_escape, dialect);
                    from = at + 1;
                }
                End::Record { at, consumed } => {
                    let to = without_return(bytes, rest, at, dialect);
                    self.push(bytes, from..to, closed, has_escape, dialect);
                    return Split::Record { bytes: to, consumed };
                }
            }
        }
    }

    fn push(&mut self, bytes: &[u8], range: Range<usize>, closed: Option<Quoted>, has_escape: bool, dialect: &Dialect) {
        let is_quoted = closed.is_some();
        let field = bytes.get(range.clone()).unwrap_or_default();
        let is_null = !is_quoted && field == dialect.null.as_bytes();
        let (range, is_unescaped) = match closed {
            None if !has_escape => (range, false),
            Some(closed) if closed.behind == range.end && !closed.is_escaped => {
                (range.start + 1..closed.behind - 1, false)
            }
            _ => {
                let start = self.unescaped.len();
                unescape(field, dialect, &mut self.unescaped);
                (start..self.unescaped.len(), true)
            }
        };
        let span = Span { range, is_unescaped, is_quoted, is_null };
        self.spans.push(span);
    }
}

/// A quoted part at the beginning of a field.
struct Quoted {
    /// The first byte behind the closing quote.
    behind: usize,
    /// Whether a quote is doubled or a character escaped.
    is_escaped: bool,
}

impl Quoted {
    /// The closing quote of the field that begins at `from`; `None` if it is not in `bytes`. At their end, a quote may also be
    /// the first of two: then the end of the field is not found either.
    fn find(bytes: &[u8], from: usize, dialect: &Dialect) -> Option<Self> {
        let quote = dialect.quote?;
        let (mut at, mut is_escaped) = (from + 1, false);
        loop {
            let rest = bytes.get(at..)?;
            let found = match dialect.own_escape() {
                None => memchr(quote, rest)?,
                Some(escape) => memchr2(quote, escape, rest)?,
            };
            let is_quote = rest.get(found).copied() == Some(quote);
            if is_quote && rest.get(found + 1).copied() != Some(quote) {
                return Some(Self { behind: at + found + 1, is_escaped });
            }
            is_escaped = true;
            at += found + 2;
        }
    }
}

/// Where the field ends whose unquoted part begins at `from`, and whether something in that part is escaped.
fn find_end(bytes: &[u8], from: usize, is_at_end: bool, dialect: &Dialect) -> Option<(End, bool)> {
    let (mut at, mut has_escape) = (from, false);
    loop {
        let found = match dialect.own_escape() {
            None => find_either(bytes, at, dialect.delimiter, dialect.terminator),
            Some(escape) => {
                let rest = bytes.get(at..).unwrap_or_default();
                memchr3(dialect.delimiter, dialect.terminator, escape, rest).map(|found| at + found)
            }
        };
        let Some(found) = found else {
            let end = bytes.len();
            return is_at_end.then_some((End::Record { at: end, consumed: end }, has_escape));
        };
        match bytes.get(found).copied() {
            Some(byte) if byte == dialect.delimiter => return Some((End::Field(found), has_escape)),
            Some(byte) if byte == dialect.terminator => {
                return Some((End::Record { at: found, consumed: found + 1 }, has_escape));
            }
            _ => (at, has_escape) = (found + 2, true),
        }
    }
}

/// The end of a record at `at` whose last unquoted part begins at `from`: before a carriage return that belongs to the line feed.
fn without_return(bytes: &[u8], from: usize, at: usize, dialect: &Dialect) -> usize {
    let last = at.checked_sub(1).filter(|last| *last >= from && dialect.terminator == b'\n');
    last.filter(|last| bytes.get(*last) == Some(&b'\r')).unwrap_or(at)
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);

/// The first of two bytes. Fields are so short that eight bytes at a time are faster than a call of `memchr2`.
fn find_either(bytes: &[u8], from: usize, one: u8, other: u8) -> Option<usize> {
    let (one, other) = (u64::from(one) * ONES, u64::from(other) * ONES);
    // The top bit of each byte that is zero. Above the lowest of them, there may be wrong ones.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let mut at = from;
    let mut rest = bytes.get(from..)?;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ one) | zeros(word ^ other);
        if found != 0 {
            return Some(at + (found.trailing_zeros() / u8::BITS) as usize);
        }
        at += size_of::<u64>();
        rest = behind;
    }
    let found = rest.iter().position(|byte| *byte == one as u8 || *byte == other as u8)?;
    Some(at + found)
}

/// Appends a field without its quotes and without what escapes its characters.
fn unescape(field: &[u8], dialect: &Dialect, to: &mut Vec<u8>) {
    let is_quote = |byte: u8| Some(byte) == dialect.quote;
    let is_escape = |byte: u8| Some(byte) == dialect.own_escape();
    let mut bytes = field.iter().copied().peekable();
    let mut is_inside = bytes.next_if(|byte| is_quote(*byte)).is_some();
    while let Some(byte) = bytes.next() {
        if is_inside && is_quote(byte) {
            match bytes.next_if(|byte| is_quote(*byte)) {
                Some(doubled) => to.push(doubled),
                None => is_inside = false,
            }
        } else if is_escape(byte) {
            to.extend(bytes.next());
        } else {
            to.push(byte);
        }
    }
}

/// Follows the quotes of a record that is too long to be kept, byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skip {
    FieldStart,
    Unquoted,
    Quoted,
    /// Behind a quote in a quoted field: it ends the field, or it is doubled.
    Quote,
    /// Behind an escape character, inside of quotes or not.
    Escape {
        is_quoted: bool,
    },
    /// Behind the terminator.
    Done,
}

impl Skip {
    pub(super) fn step(self, byte: u8, dialect: &Dialect) -> Self {
        let is_escape = Some(byte) == dialect.own_escape();
        let is_quote = Some(byte) == dialect.quote;
        match self {
            Self::Escape { is_quoted: true } => Self::Quoted,
            Self::Escape { is_quoted: false } => Self::Unquoted,
            Self::Quoted if is_escape => Self::Escape { is_quoted: true },
            Self::Quoted if is_quote => Self::Quote,
            Self::Quoted => Self::Quoted,
            Self::FieldStart | Self::Quote if is_quote => Self::Quoted,
            _ if byte == dialect.terminator => Self::Done,
            _ if byte == dialect.delimiter => Self::FieldStart,
            _ if is_escape => Self::Escape { is_quoted: false },
            _ => Self::Unquoted,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaping() -> Dialect {
        Dialect { escape: Some(b'\\'), ..Dialect::default() }
    }

    /// The text of each field, and whether it is quoted.
    type Record = Vec<(Vec<u8>, bool)>;

    /// All records of `bytes`; an unclosed one is `None`.
    fn records(mut bytes: &[u8], dialect: &Dialect) -> Vec<Option<Record>> {
        let (mut fields, mut records) = (Fields::default(), Vec::new());
        while !bytes.is_empty() {
            match fields.split(bytes, true, dialect) {
                Split::Record { bytes: length, consumed } => {
                    let text = |span: &Span| (fields.text(&bytes[..length], span).to_vec(), span.is_quoted);
                    records.push(Some(fields.spans().iter().map(text).collect()));
                    bytes = &bytes[consumed..];
                }
                Split::Unclosed => {
                    records.push(None);
                    break;
                }
                Split::Incomplete => panic!("nothing is behind the end"),
            }
        }
        records
    }

    fn one(record: &str, dialect: &Dialect) -> Vec<(String, bool)> {
        let mut records = records(record.as_bytes(), dialect);
        assert_eq!(records.len(), 1, "{record}");
        let fields = records.remove(0).unwrap();
        fields.into_iter().map(|(text, is_quoted)| (String::from_utf8(text).unwrap(), is_quoted)).collect()
    }

    fn plain(text: &str) -> (String, bool) {
        (text.to_owned(), false)
    }

    fn quoted(text: &str) -> (String, bool) {
        (text.to_owned(), true)
    }

    #[test]
    fn quotes_belong_to_fields_that_begin_with_one() {
        let dialect = Dialect::default();
        assert_eq!(one("a,\"b,\nc\",\"\",\n", &dialect), [plain("a"), quoted("b,\nc"), quoted(""), plain("")]);
        assert_eq!(one("\"say \"\"hi\"\"\",x\"y\"\r\n", &dialect), [quoted("say \"hi\""), plain("x\"y\"")]);
        assert_eq!(one("\"a\"b\"c\",\"d\"\r", &dialect), [quoted("ab\"c\""), quoted("d")]);
        assert_eq!(one("a\rb,\"c\r\n\"\r\n", &dialect), [plain("a\rb"), quoted("c\r\n")]);
    }

    #[test]
    fn an_escape_character_works_inside_and_outside_of_quotes() {
        assert_eq!(one("a\\,b,\"c\\\"d\"\"e\",\\\\\n", &escaping()), [plain("a,b"), quoted("c\"d\"e"), plain("\\")]);
        let unquoted = Dialect { quote: None, ..escaping() };
        assert_eq!(one("\"a\\\nb\",c\n", &unquoted), [plain("\"a\nb\""), plain("c")]);
        let doubled = Dialect { escape: Some(b'"'), ..Dialect::default() };
        assert_eq!(one("\"a\"\"b\"\n", &doubled), [quoted("a\"b")]);
    }

    #[test]
    fn a_quote_that_nothing_closes_is_noticed() {
        assert_eq!(records(b"a,b\nc,\"d\n", &Dialect::default()).last(), Some(&None));
        assert_eq!(records(b"\"a\\\"", &escaping()), [None]);
    }

    fn csv_like() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(prop::sample::select(b"ab,\"\n\r\\;".to_vec()), 0..40),
            prop::collection::vec(any::<u8>(), 0..60),
            "([a-z]{0,12}|\"([a-z ,\n]|\"\"){0,12}\")(,([a-z]{0,12}|\"[a-z,\r\n]{0,12}\"))*\r?\n"
                .prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Its terminator may not be told apart from that of others: a carriage return alone ends a record for the csv crate.
        #[test]
        fn fields_are_those_of_the_csv_crate(bytes in csv_like()) {
            let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != b'\r').collect();
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&*bytes);
            let expected: Vec<Vec<Vec<u8>>> =
                reader.byte_records().map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect()).collect();
            let ours = records(&bytes, &Dialect::default());
            // It takes what an unclosed quote swallows for a field, and skips empty lines.
            let is_closed = ours.iter().all(Option::is_some);
            let empty = vec![(Vec::new(), false)];
            let ours: Vec<_> = ours.into_iter().flatten().filter(|record| *record != empty)
                .map(|record| record.into_iter().map(|(text, _)| text).collect::<Vec<_>>()).collect();
            let expected = if is_closed { &*expected } else { &expected[..ours.len().min(expected.len())] };
            prop_assert_eq!(&*ours, expected);
        }

        /// However little of the input is there, a record is the same as soon as it is one.
        #[test]
        fn a_record_is_found_only_when_it_is_complete(bytes in csv_like(), escape in any::<bool>()) {
            let dialect = if escape { escaping() } else { Dialect::default() };
            let (mut all, mut some) = (Fields::default(), Fields::default());
            let whole = all.split(&bytes, true, &dialect);
            for end in 0..=bytes.len() {
                if let found @ Split::Record { .. } = some.split(&bytes[..end], false, &dialect) {
                    prop_assert_eq!(found, whole);
                    prop_assert_eq!(some.spans(), all.spans());
                }
            }
        }

        #[test]
        fn a_record_that_is_skipped_ends_where_it_would_have_ended(bytes in csv_like(), escape in any::<bool>()) {
            let dialect = if escape { escaping() } else { Dialect::default() };
            let mut state = Skip::FieldStart;
            let skipped = bytes.iter().position(|byte| {
                state = state.step(*byte, &dialect);
                state == Skip::Done
            });
            let found = match Fields::default().split(&bytes, false, &dialect) {
                Split::Record { consumed, .. } => Some(consumed - 1),
                _ => None,
            };
            prop_assert_eq!(skipped, found);
        }

        #[test]
        fn the_first_of_two_bytes_is_found(bytes in prop::collection::vec(0..6_u8, 0..40), from in 0..40_usize) {
            let expected = bytes.iter().enumerate().skip(from).find(|(_, byte)| matches!(byte, 1 | 5)).map(|(at, _)| at);
            prop_assert_eq!(find_either(&bytes, from, 1, 5), expected);
        }
    }
}
