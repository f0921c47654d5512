//! What a conversion needs in memory, however large the object is.

#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::{
    fmt::Write as _,
    io::{self, Read, Write as _},
};

use flate2::{Compression, write::GzEncoder};
use load_ingester::convert::{Declaration, Format, Part, Plan, Quarantined, Sink, convert};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const COLUMNS: usize = 30;
/// What is allowed for 30 columns, with the defaults.
const MOST_MB: f32 = 150.0;
/// What the largest object may need more than one that fills a row group.
const MORE_MB: f32 = 16.0;

/// A CSV file that exists only as far as it is read.
struct Generated {
    encoder: GzEncoder<Vec<u8>>,
    /// What is left of it, in bytes before compression.
    left: usize,
    row: u64,
    ready: io::Cursor<Vec<u8>>,
}

impl Generated {
    fn new(bytes: usize) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let names: Vec<_> = (0..COLUMNS).map(|column| format!("c{column}")).collect();
        encoder.write_all((names.join(",") + "\n").as_bytes()).unwrap();
        Self { encoder, left: bytes, row: 0, ready: io::Cursor::default() }
    }

    /// A row of integers, decimals, times and texts, of which a third repeat.
    fn line(&mut self) -> String {
        self.row += 1;
        let mut line = String::new();
        for column in 0..COLUMNS as u64 {
            let number = (self.row * 0x9e37_79b9 + column).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20;
            match column % 6 {
                0 => write!(line, "{number},"),
                1 => write!(line, "{}.{:02},", number % 100_000, number % 100),
                2 => write!(line, "2021-12-{:02} 11:20:{:02}.{:06},", number % 28 + 1, number % 60, number % 1_000_000),
                3 => write!(line, "\"station, {}\",", number % 300),
                4 => write!(line, "{number:016x},"),
                _ => write!(line, "text {},", number % 100_000),
            }
            .unwrap();
        }
        line.pop();
        line + "\n"
    }

    fn produce(&mut self) -> Vec<u8> {
        while self.left > 0 && self.encoder.get_ref().is_empty() {
            let line = self.line();
            self.left = self.left.saturating_sub(line.len());
            self.encoder.write_all(line.as_bytes()).unwrap();
        }
        if self.left == 0 {
            self.encoder.try_finish().unwrap();
        }
        std::mem::take(self.encoder.get_mut())
    }
}

impl Read for Generated {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.ready.read(to)?;
        if count > 0 || to.is_empty() {
            return Ok(count);
        }
        self.ready = io::Cursor::new(self.produce());
        self.ready.read(to)
    }
}

/// Forgets what it receives, as an upload does.
#[derive(Default)]
struct Discard(u64);

impl Sink for Discard {
    fn begin_part(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn part_bytes(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn end_part(&mut self, _: &Part) -> io::Result<()> {
        Ok(())
    }

    fn quarantine(&mut self, row: &Quarantined<'_>) -> io::Result<()> {
        Err(io::Error::other(format!("{row:?}")))
    }
}

/// The peak of a conversion, in MB, and the number of its rows.
fn peak_mb(bytes: usize) -> (f32, u64) {
    let types = ["bigint", "decimal(9,2)", "timestamp", "text", "text", "text"];
    let column = |(column, kind): (usize, &&str)| format!(r#"{{"name":"c{column}","type":"{kind}"}}"#);
    let columns: Vec<_> = (0..COLUMNS).zip(types.iter().cycle()).map(column).collect();
    let mut plan = Plan::new(Format::of_key("a.csv.gz").unwrap());
    plan.columns = Some(Declaration::parse(format!("[{}]", columns.join(",")).as_bytes()).unwrap());
    let (mut discard, input) = (Discard::default(), Generated::new(bytes));
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage_as_mb();
    let summary = convert(input, &plan, &mut discard).unwrap();
    assert_eq!(summary.parts.iter().map(|part| part.bytes).sum::<u64>(), discard.0);
    (MEMORY.peak_usage_as_mb() - before, summary.rows)
}

/// `LANDFALL_MEGABYTES` makes the largest object larger.
#[test]
fn memory_does_not_grow_with_the_object() {
    #[expect(clippy::disallowed_methods, reason = "another size is chosen for one run of the test")]
    let largest = std::env::var("LANDFALL_MEGABYTES").map_or(300, |megabytes| megabytes.parse().unwrap());
    let (small, _) = peak_mb(10 << 20);
    let (filled, _) = peak_mb(60 << 20);
    let (large, rows) = peak_mb(largest << 20);
    println!("10 MB: {small:.0} MB; 60 MB: {filled:.0} MB; {largest} MB, {rows} rows: {large:.0} MB");
    assert!(large <= MOST_MB, "{large} MB");
    assert!(large <= filled + MORE_MB, "{large} MB after {filled} MB");
}
