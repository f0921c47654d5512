//! Recorded traffic: files in the format of the Coveo data challenge at SIGIR eCom 2021.
//!
//! `browsing_train.csv` has one row for each hit and is read row by row. The optional `sku_to_content.csv` has the
//! categories and prices of products, which are kept in memory. The challenge's licence forbids redistributing its files,
//! so none is in this repository: <https://github.com/coveooss/SIGIR-ecom-data-challenge>.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use csv::{Reader, ReaderBuilder, StringRecord};

use crate::{
    hit::{Hit, Kind, Parameters, Product},
    random::{hash, mix},
    visitor::{Page, Visitor, unique},
};

const BROWSING: &str = "browsing_train.csv";
const CONTENT: &str = "sku_to_content.csv";
/// Most bytes of an id, a hash or a price, so that a hit stays below 8,192.
const MAX_VALUE_BYTES: usize = 256;

const SESSION: &str = "session_id_hash";
const EVENT: &str = "event_type";
const ACTION: &str = "product_action";
const SKU: &str = "product_sku_hash";
const TIME: &str = "server_timestamp_epoch_ms";
const URL: &str = "hashed_url";
const CATEGORY: &str = "category_hash";
const PRICE: &str = "price_bucket";

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("{}: {cause}", file.display())]
    Open {
        file: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{}, line 1: there is no column {column}", file.display())]
    MissingColumn { file: PathBuf, column: &'static str },
    /// The row is not CSV, not UTF-8, or has another number of columns than the first line. The cause names the line.
    #[error("{}: {cause}", file.display())]
    Csv {
        file: PathBuf,
        #[source]
        cause: csv::Error,
    },
    #[error("{}, line {line}, column {column}: {value:?} is not {expected}", file.display())]
    Value { file: PathBuf, line: u64, column: &'static str, value: String, expected: &'static str },
}

/// A CSV file whose first line names its columns.
#[derive(Debug)]
struct Table {
    file: PathBuf,
    reader: Reader<File>,
    columns: StringRecord,
}

/// A row of a table.
struct Row<'a> {
    file: &'a Path,
    columns: &'a StringRecord,
    values: StringRecord,
}

impl Table {
    fn open(file: PathBuf, needed: &[&'static str]) -> Result<Self, DatasetError> {
        let opened = match File::open(&file) {
            Ok(opened) => opened,
            Err(cause) => return Err(DatasetError::Open { file, cause }),
        };
        let mut reader = ReaderBuilder::new().from_reader(opened);
        let columns = match reader.headers() {
            Ok(columns) => columns.clone(),
            Err(cause) => return Err(DatasetError::Csv { file, cause }),
        };
        match needed.iter().find(|needed| columns.iter().all(|column| column != **needed)) {
            Some(column) => Err(DatasetError::MissingColumn { file, column }),
            None => Ok(Self { file, reader, columns }),
        }
    }

    fn next_row(&mut self) -> Result<Option<Row<'_>>, DatasetError> {
        let Self { file, reader, columns } = self;
        let mut values = StringRecord::new();
        match reader.read_record(&mut values) {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(Row { file, columns, values })),
            Err(cause) => Err(DatasetError::Csv { file: file.clone(), cause }),
        }
    }
}

impl Row<'_> {
    /// The value of a column that [`Table::open`] found to be there.
    fn get(&self, column: &str) -> &str {
        let position = self.columns.iter().position(|name| name == column);
        position.and_then(|position| self.values.get(position)).unwrap_or_default()
    }

    fn invalid(&self, column: &'static str, expected: &'static str) -> DatasetError {
        let line = self.values.position().map_or(0, csv::Position::line);
        let value = self.get(column).chars().take(80).collect();
        DatasetError::Value { file: self.file.to_owned(), line, column, value, expected }
    }

    /// A value that is short enough for a hit and may be empty.
    fn short(&self, column: &'static str) -> Result<&str, DatasetError> {
        let value = self.get(column);
        let is_short = value.len() <= MAX_VALUE_BYTES;
        if is_short { Ok(value) } else { Err(self.invalid(column, "a text of at most 256 bytes")) }
    }

    fn optional(&self, column: &'static str) -> Result<Option<&str>, DatasetError> {
        self.short(column).map(|value| (!value.is_empty()).then_some(value))
    }

    fn required(&self, column: &'static str) -> Result<&str, DatasetError> {
        self.optional(column)?.ok_or_else(|| self.invalid(column, "a value"))
    }

    fn kind(&self) -> Result<Kind, DatasetError> {
        match (self.get(EVENT), self.get(ACTION)) {
            ("pageview", _) => Ok(Kind::Pageview),
            ("event_product", "detail") => Ok(Kind::Detail),
            ("event_product", "add") => Ok(Kind::Add),
            ("event_product", "remove") => Ok(Kind::Remove),
            ("event_product", "purchase") => Ok(Kind::Purchase),
            ("event_product", "click") => Ok(Kind::Event),
            ("event_product", _) => Err(self.invalid(ACTION, "detail, add, remove, purchase or click")),
            _ => Err(self.invalid(EVENT, "pageview or event_product")),
        }
    }

    /// The hit of a row of `browsing_train.csv`.
    fn hit(&self, seed: u64, ordinal: u64, contents: &Contents) -> Result<Hit, DatasetError> {
        let session = self.required(SESSION)?;
        let kind = self.kind()?;
        if self.get(TIME).parse::<u64>().is_err() {
            return Err(self.invalid(TIME, "a time in milliseconds since 1970"));
        }
        let path = format!("/{}", self.short(URL)?);
        let unique = unique(seed, ordinal);
        let mut details = Parameters::default();
        if kind != Kind::Pageview {
            let sku = self.required(SKU)?;
            let (category, price) = contents.get(sku).cloned().unwrap_or_default();
            match kind {
                Kind::Purchase => {
                    details.push("ti", format!("T-{:016X}", mix(unique)));
                    details.push("tr", price.clone().unwrap_or_else(|| "0".to_owned()));
                }
                Kind::Event => {
                    details.push("ec", "ecommerce");
                    details.push("ea", "click");
                    details.push("pa", "click");
                }
                Kind::Pageview | Kind::Detail | Kind::Add | Kind::Remove => {}
            }
            let quantity = matches!(kind, Kind::Add | Kind::Remove | Kind::Purchase).then_some(1);
            let product = Product { id: sku.to_owned(), category, price, ..Product::default() };
            product.write(&mut details, 1, quantity);
        }
        let page = Page { path: &path, title: "", referrer: "" };
        Ok(Visitor::of_session(seed, session).hit(kind, hash(session), &page, details, unique))
    }
}

/// Category and price of products, by SKU.
type Contents = HashMap<String, (Option<String>, Option<String>)>;

/// The products of `sku_to_content.csv`: none when there is no such file.
fn contents(dir: &Path) -> Result<Contents, DatasetError> {
    let mut contents = Contents::new();
    let mut table = match Table::open(dir.join(CONTENT), &[SKU, CATEGORY, PRICE]) {
        Err(DatasetError::Open { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => return Ok(contents),
        table => table?,
    };
    while let Some(row) = table.next_row()? {
        let price = row.optional(PRICE)?;
        let is_price = |text: &str| text.parse().is_ok_and(|price: f64| price.is_finite() && price >= 0.0);
        if !price.is_none_or(is_price) {
            return Err(row.invalid(PRICE, "a price"));
        }
        let content = (row.optional(CATEGORY)?.map(str::to_owned), price.map(str::to_owned));
        contents.insert(row.required(SKU)?.to_owned(), content);
    }
    Ok(contents)
}

/// The hits of a folder in the order of its rows, up to the end or the first row that is wrong.
#[derive(Debug)]
pub struct Dataset {
    seed: u64,
    ordinal: u64,
    contents: Contents,
    table: Option<Table>,
}

impl Dataset {
    pub fn open(dir: &Path, seed: u64) -> Result<Self, DatasetError> {
        let table = Table::open(dir.join(BROWSING), &[SESSION, EVENT, ACTION, SKU, TIME, URL])?;
        Ok(Self { seed, ordinal: 0, contents: contents(dir)?, table: Some(table) })
    }
}

impl Iterator for Dataset {
    type Item = Result<Hit, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.table.as_mut()?.next_row();
        let hit = row.and_then(|row| row.map(|row| row.hit(self.seed, self.ordinal, &self.contents)).transpose());
        self.ordinal += 1;
        if !matches!(hit, Ok(Some(_))) {
            self.table = None;
        }
        hit.transpose()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{env, fs, process};

    use proptest::prelude::*;

    use super::*;
    use crate::hit::tests::{decoded, pairs};

    const HEAD: &str =
        "session_id_hash,event_type,product_action,product_sku_hash,server_timestamp_epoch_ms,hashed_url\n";

    /// A folder that is removed when this is dropped.
    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        pub(crate) fn of(name: &str, rows: &str, products: Option<&str>) -> Self {
            let path = env::temp_dir().join(format!("pump-{name}-{}", process::id()));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(BROWSING), format!("{HEAD}{rows}")).unwrap();
            if let Some(products) = products {
                fs::write(path.join(CONTENT), products).unwrap();
            }
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// The hits before the first error, and the error without the folder's name.
    fn read(name: &str, rows: &str, products: Option<&str>) -> (Vec<Hit>, Option<String>) {
        let folder = Folder::of(name, rows, products);
        let message = |error: DatasetError| error.to_string().replace(&format!("{}/", folder.0.display()), "");
        let dataset = match Dataset::open(&folder.0, 1) {
            Ok(dataset) => dataset,
            Err(error) => return (vec![], Some(message(error))),
        };
        let mut hits = Vec::new();
        for hit in dataset {
            match hit {
                Ok(hit) => hits.push(hit),
                Err(error) => return (hits, Some(message(error))),
            }
        }
        (hits, None)
    }

    const PRODUCTS: &str = "\
product_sku_hash,description_vector,category_hash,image_vector,price_bucket
abc,\"[0.1, -0.2]\",home/kitchen,\"[1.0]\",7.0
def,,,,
";

    #[test]
    fn each_row_is_a_hit() {
        let rows = "\
s1,pageview,,,1550885210881,u1
s1,event_product,detail,abc,1550885213307,u2
s1,event_product,add,abc,1550885213308,u2
s2,event_product,remove,def,1550885213309,\"u,3\"
s1,event_product,purchase,abc,1550885213310,u4
s1,event_product,click,unknown,1550885213311,u4\r
";
        let (hits, error) = read("rows", rows, Some(PRODUCTS));
        assert_eq!(error, None);
        let kinds: Vec<Kind> = hits.iter().map(|hit| hit.kind).collect();
        assert_eq!(kinds, [Kind::Pageview, Kind::Detail, Kind::Add, Kind::Remove, Kind::Purchase, Kind::Event]);
        let get = |hit: usize, name| hits[hit].parameters.get(name);
        assert_eq!((get(0, "t"), get(0, "dl")), (Some("pageview"), Some("https://shop.example/u1")));
        assert_eq!((get(1, "pa"), get(1, "pr1id"), get(1, "pr1qt")), (Some("detail"), Some("abc"), None));
        assert_eq!((get(2, "pr1ca"), get(2, "pr1pr")), (Some("home/kitchen"), Some("7.0")));
        assert_eq!((get(3, "pr1ca"), get(3, "dl")), (None, Some("https://shop.example/u,3")));
        assert_eq!((get(4, "tr"), get(4, "ti").is_some()), (Some("7.0"), true));
        assert_eq!((get(5, "ea"), get(5, "pr1id")), (Some("click"), Some("unknown")));
        // A session is one visitor.
        assert_eq!((get(0, "cid"), hits[0].session), (get(5, "cid"), hits[5].session));
        assert_ne!((get(0, "cid"), hits[0].session), (get(3, "cid"), hits[3].session));
        assert_eq!(read("again", rows, Some(PRODUCTS)).0, hits);
    }

    #[test]
    fn an_error_names_the_file_and_the_line() {
        let good = "s1,pageview,,,1550885210881,u1\n";
        for (bad, expected) in [
            (
                "s1,visit,,,1,u",
                "browsing_train.csv, line 3, column event_type: \"visit\" is not pageview or event_product",
            ),
            (
                "s1,event_product,wish,a,1,u",
                "browsing_train.csv, line 3, column product_action: \"wish\" is not detail, add, remove, purchase or click",
            ),
            ("s1,event_product,add,,1,u", "browsing_train.csv, line 3, column product_sku_hash: \"\" is not a value"),
            (",pageview,,,1,u", "browsing_train.csv, line 3, column session_id_hash: \"\" is not a value"),
            (
                "s1,pageview,,,today,u",
                "browsing_train.csv, line 3, column server_timestamp_epoch_ms: \"today\" is not a time in milliseconds since 1970",
            ),
            (
                "s1,pageview,,,155",
                "browsing_train.csv: CSV error: record 2 (line: 3, byte: 127): found record with 5 fields, but the previous record has 6 fields",
            ),
        ] {
            let (hits, error) = read("bad", &format!("{good}{bad}"), None);
            assert_eq!((hits.len(), error.as_deref()), (1, Some(expected)));
        }
    }

    /// An unclosed quote makes one value of the rest of the file.
    #[test]
    fn an_unclosed_quote_is_reported_with_the_line_where_it_begins() {
        let rest = "s1,pageview,,,1,u\n".repeat(40);
        let (hits, error) = read("quote", &format!("s1,pageview,,,1,u\n\"s1,pageview,,,1,u\n{rest}"), None);
        let error = error.unwrap();
        assert!(hits.len() == 1 && error.contains("line: 3"), "{error}");
    }

    #[test]
    fn missing_files_and_columns_are_reported_before_the_first_hit() {
        let missing = Dataset::open(Path::new("/nowhere"), 1).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/browsing_train.csv: "), "{missing}");
        let (_, error) = read("other", "", Some("sku,price\n"));
        assert_eq!(error.as_deref(), Some("sku_to_content.csv, line 1: there is no column product_sku_hash"));
        let (_, error) = read("price", "", Some("product_sku_hash,category_hash,price_bucket\na,,dear\n"));
        assert_eq!(error.as_deref(), Some("sku_to_content.csv, line 2, column price_bucket: \"dear\" is not a price"));
        assert_eq!(read("empty", "", None), (vec![], None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_hit_fits_and_decodes_to_itself(session in "[^\",\r\n]{1,60}", sku in "[^\",\r\n]{1,60}", url in "[^\",\r\n]{0,60}") {
            let rows = format!("{session},event_product,add,{sku},1,{url}\n");
            let (hits, error) = read("property", &rows, None);
            prop_assert_eq!((hits.len(), error), (1, None));
            let form = hits[0].parameters.to_form();
            prop_assert!(form.len() < 8_192);
            prop_assert_eq!(decoded(&form), pairs(&hits[0].parameters));
        }
    }
}
