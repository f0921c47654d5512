//! How values are written for people: numbers, sizes, tables, and words that came from elsewhere.

use std::{borrow::Cow, fmt};

use indicatif::{DecimalBytes, HumanCount};
use serde::Serialize;

/// `20000` → `20,000`.
pub fn grouped(number: impl TryInto<u64>) -> String {
    HumanCount(number.try_into().unwrap_or(u64::MAX)).to_string()
}

/// `1 load`, `1,200 loads`.
pub fn counted(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// A variant of an enum as JSON has it, without quotes.
pub fn name(variant: &impl Serialize) -> String {
    struct Name<'a, T>(&'a T);
    impl<T: Serialize> fmt::Display for Name<'_, T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.serialize(f)
        }
    }
    Name(variant).to_string()
}

/// A size in bytes as `512 B`, `1.23 MB`.
pub fn size(bytes: i64) -> String {
    DecimalBytes(bytes.try_into().unwrap_or_default()).to_string()
}

/// Escapes control characters and those that change the direction of writing: keys and names from elsewhere may hold
/// them, and a terminal would obey.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_obeyed) { Cow::Owned(escaped(text, is_obeyed)) } else { Cow::Borrowed(text) }
}

/// Keeps line feeds.
pub fn printable_lines(text: &str) -> String {
    escaped(text, |character| character != '\n' && is_obeyed(character))
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_escaped(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The title of a column, and how its cells are aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column<'a> {
    Left(&'a str),
    Right(&'a str),
}

impl Column<'_> {
    const fn title(&self) -> &str {
        match self {
            Self::Left(title) | Self::Right(title) => title,
        }
    }
}

/// Aligned columns with titles. A column without values is left out; an empty cell is `-`.
#[derive(Debug, Clone)]
pub struct Table<'a, const N: usize> {
    columns: [Column<'a>; N],
    rows: Vec<[String; N]>,
}

impl<'a, const N: usize> Table<'a, N> {
    pub const fn new(columns: [Column<'a>; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| printable(&cell).into_owned()));
    }
}

impl<const N: usize> fmt::Display for Table<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let widths: Vec<Option<usize>> = widths
            .into_iter()
            .zip(&self.columns)
            .map(|(width, column)| (width > 0).then(|| width.max(column.title().chars().count())))
            .collect();
        let titles = self.columns.each_ref().map(Column::title);
        let rows = self.rows.iter().map(|row| row.each_ref().map(|cell| if cell.is_empty() { "-" } else { cell }));
        for row in std::iter::once(titles).chain(rows) {
            let mut line = String::new();
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                let Some(width) = *width else { continue };
                if !line.is_empty() {
                    line += "  ";
                }
                match column {
                    Column::Left(_) => line += &format!("{cell:<width$}"),
                    Column::Right(_) => line += &format!("{cell:>width$}"),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_come_in_groups() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "load", "loads"), "1 load");
        assert_eq!(counted(1_200, "load", "loads"), "1,200 loads");
    }

    #[test]
    fn sizes_have_units() {
        for (bytes, text) in [(0, "0 B"), (999, "999 B"), (1_000, "1.00 kB"), (1_234_567, "1.23 MB"), (-1, "0 B")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("cubic/dmap/é 1.csv"), "cubic/dmap/é 1.csv");
        assert_eq!(printable("a\u{1b}[2Jb\n\u{9b}\u{202e}"), "a\\u{1b}[2Jb\\n\\u{9b}\\u{202e}");
        assert_eq!(printable_lines("a\nb\r"), "a\nb\\r");
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut table =
            Table::new([Column::Right("id"), Column::Left("name"), Column::Left("note"), Column::Left("key")]);
        table.row(["7", "short", "", "a"].map(str::to_owned));
        table.row(["1,200", "", "", "b\tc"].map(str::to_owned));
        let expected = "   id  name   key\n    7  short  a\n1,200  -      b\\tc\n";
        assert_eq!(table.to_string(), expected);
        assert_eq!(Table::new([Column::Left("id")]).to_string(), "\n");
    }

    proptest! {
        #[test]
        fn nothing_printed_is_obeyed(text in any::<String>()) {
            prop_assert!(!printable(&text).chars().any(is_obeyed));
            prop_assert!(!printable_lines(&text).replace('\n', "").chars().any(is_obeyed));
        }

        #[test]
        fn every_row_is_one_line(rows in prop::collection::vec([".{0,12}", ".{0,12}", ".{0,12}"], 1..6)) {
            let mut table = Table::new([Column::Left("left"), Column::Right("right"), Column::Left("last")]);
            let count = rows.len();
            rows.into_iter().for_each(|row| table.row(row));
            prop_assert_eq!(table.to_string().lines().count(), count + 1);
        }
    }
}
