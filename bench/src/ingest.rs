//! A load → Parquet: CSV in gzip with 30 typed columns, and every way from there to a Parquet file.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use load_ingester::convert::{Declaration, Format, Part, Plan, Quarantined, Sink, convert};
use serde_json::json;

use crate::{
    Error,
    python::{Handler, Python},
    rounds::{Route, Run, Stopwatch},
};

/// Rows of the load, about 90 MB before compression.
pub const ROWS: u64 = 300_000;

/// Names and types, as DuckDB knows them too.
const COLUMNS: [(&str, &str); 30] = [
    ("id", "bigint"),
    ("household", "integer"),
    ("store", "integer"),
    ("quantity", "integer"),
    ("fare", "decimal(12,4)"),
    ("discount", "decimal(9,2)"),
    ("tax", "decimal(18,6)"),
    ("latitude", "double"),
    ("longitude", "double"),
    ("active", "boolean"),
    ("opened", "date"),
    ("sold_at", "timestamp"),
    ("updated_at", "timestamp"),
    ("city", "text"),
    ("status", "text"),
    ("note", "text"),
    ("card", "text"),
    ("change", "text"),
    ("code", "text"),
    ("zip", "text"),
    ("points", "integer"),
    ("basket", "bigint"),
    ("settled", "date"),
    ("inserted_at", "timestamp"),
    ("remark", "text"),
    ("kind", "text"),
    ("weight", "double"),
    ("amount", "decimal(10,2)"),
    ("flag", "text"),
    ("source", "text"),
];

/// The load as a file, and what is to become of it.
#[derive(Debug)]
pub struct Load {
    file: PathBuf,
    /// The size of the file before compression.
    pub bytes: usize,
    declaration: Declaration,
}

impl Load {
    /// Writes a load into `folder`.
    pub fn write(folder: &Path) -> Result<Self, Error> {
        let file = folder.join("LOAD00000001.csv.gz");
        let mut encoder = GzEncoder::new(BufWriter::new(File::create(&file)?), Compression::default());
        let names = COLUMNS.map(|(name, _)| name).join(",") + "\n";
        encoder.write_all(names.as_bytes())?;
        let mut bytes = names.len();
        for row in 0..ROWS {
            let line = line(row)?;
            encoder.write_all(line.as_bytes())?;
            bytes += line.len();
        }
        encoder.finish()?.flush()?;
        let columns: Vec<_> = COLUMNS.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
        let declaration = Declaration::parse(&serde_json::to_vec(&columns)?)?;
        Ok(Self { file, bytes, declaration })
    }

    /// The load that is in `folder` already.
    pub fn plan(&self) -> Result<Plan, Error> {
        let format = Format::of_key(&self.file.to_string_lossy()).ok_or("the load has no format")?;
        Ok(Plan { columns: Some(self.declaration.clone()), ..Plan::new(format) })
    }
}

/// A number that looks like chance (SplitMix64).
fn scattered(row: u64, column: u64) -> u64 {
    let mut mixed = (row * 64 + column + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn line(row: u64) -> Result<String, Error> {
    let number = |column: u64, below: u64| scattered(row, column) % below;
    let decimal = |column: u64, below: u64, digits: usize| {
        let number = number(column, below);
        let scale = 10_u64.pow(digits as u32);
        format!("{}.{:0digits$}", number / scale, number % scale)
    };
    let day = format!("2021-{:02}-{:02}", row * 12 / ROWS + 1, row % 28 + 1);
    let time = |column: u64| {
        format!(
            "{day} {:02}:{:02}:{:02}.{:06}",
            number(column, 24),
            number(column, 60),
            row % 60,
            number(column, 1_000_000)
        )
    };
    let words = ["platform", "station", "red", "line", "crossing", "at", "the", "northern"];
    let word = |place: u64| words.iter().cycle().nth(number(16 + place, 8) as usize).copied().unwrap_or_default();
    let note: Vec<&str> = (0..number(15, 7)).map(word).collect();
    let quoted = if number(31, 10) == 0 { format!("\"{}, or \"\"so\"\"\"", note.join(" ")) } else { note.join(" ") };
    let pick =
        |column, of: &[&'static str]| of.iter().cycle().nth(number(column, 997) as usize).copied().unwrap_or_default();
    let some = |column: u64, of: u64, value: String| if number(column + 32, of) == 0 { String::new() } else { value };
    let mut line = String::new();
    write!(line, "{},{},{},{},", 10_000_000 + row, number(1, 100_000), number(2, 300), number(3, 20))?;
    write!(line, "{},{},{},", decimal(4, 10_000_000, 4), decimal(5, 5_000, 2), decimal(6, 100_000_000, 6))?;
    write!(line, "42.{:015},-71.{:015},", number(7, 1_000_000_000_000_000), number(8, 1_000_000_000_000_000))?;
    write!(line, "{},{day},{},{day} 11:20:30,", pick(9, &["true", "false"]), time(11))?;
    write!(line, "{},", pick(13, &["Boston", "Cambridge", "Somerville", "Quincy", "São Paulo", "Braintree"]))?;
    write!(line, "{},{quoted},{:016x},", pick(14, &["OPEN", "CLOSED", "PENDING"]), scattered(row, 16))?;
    write!(line, "2022010120402000{row:019},C{:05},{:05},", number(18, 5_000), number(19, 100_000))?;
    write!(
        line,
        "{},{},{day},{},",
        some(20, 5, number(20, 1_000).to_string()),
        number(21, 1_000_000_000_000),
        time(23)
    )?;
    write!(
        line,
        "{},constant,{},",
        some(24, 2, pick(24, &["late", "early"]).to_owned()),
        pick(26, &["0.5", "1.25", "2.75"])
    )?;
    writeln!(line, "{},{},end {}", decimal(27, 10_000_000_000, 2), pick(28, &["Y", "N"]), row % 1_000)?;
    Ok(line)
}

/// The conversion of `load-ingester`.
#[derive(Debug)]
pub struct Landfall<'a> {
    load: &'a Load,
    plan: Plan,
    output: PathBuf,
}

impl<'a> Landfall<'a> {
    /// Writes to `output`.
    pub fn new(load: &'a Load, output: PathBuf) -> Result<Self, Error> {
        Ok(Self { plan: load.plan()?, load, output })
    }
}

impl Route for Landfall<'_> {
    fn name(&self) -> &str {
        "Landfall"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let watch = Stopwatch::start();
        let mut output = Output(File::create(&self.output)?);
        let summary = convert(File::open(&self.load.file)?, &self.plan, &mut output)?;
        if (summary.rows, summary.parts.len()) != (ROWS, 1) {
            return Err(format!("{} rows in {} parts", summary.rows, summary.parts.len()).into());
        }
        Ok(watch.stop(Vec::new()))
    }
}

/// Writes the only part to a file.
struct Output(File);

impl Sink for Output {
    fn begin_part(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn part_bytes(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.0.write_all(&bytes)
    }

    fn end_part(&mut self, _: &Part) -> io::Result<()> {
        Ok(())
    }

    fn quarantine(&mut self, row: &Quarantined<'_>) -> io::Result<()> {
        Err(io::Error::other(format!("{row:?}")))
    }
}

/// A module of `peers/` that does the same.
#[derive(Debug)]
pub struct Peer {
    name: &'static str,
    handler: Handler,
}

impl Peer {
    /// Starts the peer, which writes to `output`.
    pub fn start(python: &Python, name: &'static str, module: &str, load: &Load, output: &Path) -> Result<Self, Error> {
        let job = json!({"file": load.file, "output": output, "columns": COLUMNS});
        let event = output.with_extension("json");
        std::fs::write(&event, serde_json::to_vec(&job)?)?;
        let unused = output.with_extension("unused");
        Ok(Self { name, handler: Handler::start(python, module, &event, 1, unused)? })
    }

    /// The most memory that the peer has had so far, in MiB.
    pub fn peak_mib(&self) -> Result<f64, Error> {
        self.handler.peak_mib()
    }
}

impl Route for Peer {
    fn name(&self) -> &str {
        self.name
    }

    fn run(&mut self) -> Result<Run, Error> {
        self.handler.run()
    }
}
