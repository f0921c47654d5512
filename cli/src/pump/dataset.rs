//! Traffic that was once real: files in the column shape of the Coveo challenge at SIGIR eCom 2021.
//!
//! `browsing_train.csv` has one row for each hit and is read row by row. `sku_to_content.csv`, if it is there, has
//! categories and prices of products; they are kept, the vectors are not. The challenge's licence forbids to pass its
//! files on, so none is in this repository: <https://github.com/coveooss/SIGIR-ecom-data-challenge>.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use super::{
    csv::{Fault, Misplaced, Rows},
    dice::{mix, of_text},
    hit::{Hit, Kind, Parameters, Product},
    traffic::{Page, Visitor, unique},
};

/// One row for each hit.
const BROWSING: &str = "browsing_train.csv";
/// One row for each product.
const CONTENT: &str = "sku_to_content.csv";
/// Most bytes of an id, a hash or a price, so that a hit stays below 8,192.
const LONGEST_VALUE_BYTES: usize = 256;

const SESSION: &str = "session_id_hash";
const EVENT: &str = "event_type";
const ACTION: &str = "product_action";
const SKU: &str = "product_sku_hash";
const TIME: &str = "server_timestamp_epoch_ms";
const URL: &str = "hashed_url";
const CATEGORY: &str = "category_hash";
const PRICE: &str = "price_bucket";

/// Why there is no hit.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file cannot be opened.
    #[error("{}: {cause}", file.display())]
    Unopened {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The first line does not name a column.
    #[error("{}, line 1: there is no column {column}", file.display())]
    NoColumn {
        /// The file.
        file: PathBuf,
        /// The column.
        column: &'static str,
    },
    /// A row that is no comma-separated text.
    #[error("{place}: {fault}")]
    Unreadable {
        /// Where.
        place: Place,
        /// What is wrong.
        #[source]
        fault: Fault,
    },
    /// A row that has too few or too many columns.
    #[error("{place}: the row has {found} columns, and the first line has {expected}")]
    Columns {
        /// Where.
        place: Place,
        /// The row's.
        found: usize,
        /// The first line's.
        expected: usize,
    },
    /// A value that is none of the column's.
    #[error("{place}: {value:?} is not {expected}")]
    Value {
        /// Where.
        place: Place,
        /// The value, or its beginning.
        value: String,
        /// What would be.
        expected: &'static str,
    },
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// The column's name, or its number from 1 where it has none.
    pub column: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}, column {}", self.file.display(), self.line, self.column)
    }
}

/// A file with the columns that its first line names.
#[derive(Debug)]
struct Table {
    file: PathBuf,
    rows: Rows<BufReader<File>>,
    columns: Vec<String>,
}

/// A row of a table.
struct Row<'a> {
    file: &'a Path,
    line: u64,
    columns: &'a [String],
    values: Vec<&'a str>,
}

impl Table {
    fn open(file: PathBuf, needed: &[&'static str]) -> Result<Self, DatasetError> {
        let reader = match File::open(&file) {
            Ok(opened) => BufReader::with_capacity(1 << 16, opened),
            Err(cause) => return Err(DatasetError::Unopened { file, cause }),
        };
        let mut rows = Rows::new(reader);
        let columns: Vec<String> = match rows.next_row() {
            Ok(row) => row.map(|(_, names)| names).unwrap_or_default().into_iter().map(str::to_owned).collect(),
            Err(error) => return Err(unreadable(&file, &[], error)),
        };
        match needed.iter().find(|needed| !columns.iter().any(|column| column == *needed)) {
            Some(column) => Err(DatasetError::NoColumn { file, column }),
            None => Ok(Self { file, rows, columns }),
        }
    }

    fn next_row(&mut self) -> Result<Option<Row<'_>>, DatasetError> {
        let Self { file, rows, columns } = self;
        match rows.next_row() {
            Ok(None) => Ok(None),
            Ok(Some((line, values))) if values.len() == columns.len() => Ok(Some(Row { file, line, columns, values })),
            Ok(Some((line, values))) => {
                let (found, expected) = (values.len(), columns.len());
                // The first column that is missing, or one that should not be there.
                let column = name(columns, found.min(expected));
                Err(DatasetError::Columns { place: Place { file: file.clone(), line, column }, found, expected })
            }
            Err(error) => Err(unreadable(file, columns, error)),
        }
    }
}

fn name(columns: &[String], column: usize) -> String {
    columns.get(column).cloned().unwrap_or_else(|| (column + 1).to_string())
}

fn unreadable(file: &Path, columns: &[String], error: Misplaced) -> DatasetError {
    let Misplaced { line, column, fault } = error;
    DatasetError::Unreadable { place: Place { file: file.to_owned(), line, column: name(columns, column) }, fault }
}

impl Row<'_> {
    /// The value of a column, which is one of those that were needed.
    fn get(&self, column: &str) -> &str {
        let position = self.columns.iter().position(|name| name == column);
        position.and_then(|position| self.values.get(position)).copied().unwrap_or_default()
    }

    fn wrong(&self, column: &str, expected: &'static str) -> DatasetError {
        let place = Place { file: self.file.to_owned(), line: self.line, column: column.to_owned() };
        DatasetError::Value { place, value: self.get(column).chars().take(80).collect(), expected }
    }

    /// A value that is not too long for a hit.
    fn short(&self, column: &str) -> Result<&str, DatasetError> {
        let value = self.get(column);
        if value.len() <= LONGEST_VALUE_BYTES {
            Ok(value)
        } else {
            Err(self.wrong(column, "a text of at most 256 bytes"))
        }
    }

    /// A value that may be missing.
    fn optional(&self, column: &str) -> Result<Option<&str>, DatasetError> {
        self.short(column).map(|value| (!value.is_empty()).then_some(value))
    }

    /// A value that has to be there.
    fn needed(&self, column: &str) -> Result<&str, DatasetError> {
        self.optional(column)?.ok_or_else(|| self.wrong(column, "a value"))
    }

    fn kind(&self) -> Result<Kind, DatasetError> {
        match self.get(EVENT) {
            "pageview" => Ok(Kind::Pageview),
            "event_product" => match self.get(ACTION) {
                "detail" => Ok(Kind::Detail),
                "add" => Ok(Kind::Add),
                "remove" => Ok(Kind::Remove),
                "purchase" => Ok(Kind::Purchase),
                "click" => Ok(Kind::Event),
                _ => Err(self.wrong(ACTION, "detail, add, remove, purchase or click")),
            },
            _ => Err(self.wrong(EVENT, "pageview or event_product")),
        }
    }

    /// The hit of a row of `browsing_train.csv`.
    fn hit(&self, seed: u64, ordinal: u64, contents: &Contents) -> Result<Hit, DatasetError> {
        let session = self.needed(SESSION)?;
        let kind = self.kind()?;
        if self.get(TIME).parse::<u64>().is_err() {
            return Err(self.wrong(TIME, "a time in milliseconds since 1970"));
        }
        let path = format!("/{}", self.short(URL)?);
        let unique = unique(seed, ordinal);
        let mut rest = Parameters::default();
        if kind != Kind::Pageview {
            let sku = self.needed(SKU)?;
            let content = contents.get(sku).cloned().unwrap_or_default();
            match kind {
                Kind::Purchase => {
                    rest.push("ti", format!("T-{:016X}", mix(unique)));
                    rest.push("tr", content.price.clone().unwrap_or_else(|| "0".to_owned()));
                }
                Kind::Event => {
                    rest.push("ec", "ecommerce");
                    rest.push("ea", "click");
                    rest.push("pa", "click");
                }
                Kind::Pageview | Kind::Detail | Kind::Add | Kind::Remove => {}
            }
            let quantity = matches!(kind, Kind::Add | Kind::Remove | Kind::Purchase).then_some(1);
            let product =
                Product { id: sku.to_owned(), category: content.category, price: content.price, ..Product::default() };
            product.write(&mut rest, 1, quantity);
        }
        let page = Page { path: &path, title: "", referrer: "" };
        Ok(Visitor::of_session(seed, session).hit(kind, of_text(session), &page, rest, unique))
    }
}

/// What is known of products, by SKU.
type Contents = HashMap<String, Content>;

/// What is known of a product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Content {
    category: Option<String>,
    price: Option<String>,
}

/// The products of `sku_to_content.csv`: none when there is no such file.
fn contents(dir: &Path) -> Result<Contents, DatasetError> {
    let mut contents = Contents::new();
    let mut table = match Table::open(dir.join(CONTENT), &[SKU, CATEGORY, PRICE]) {
        Err(DatasetError::Unopened { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => return Ok(contents),
        table => table?,
    };
    while let Some(row) = table.next_row()? {
        let price = row.optional(PRICE)?;
        let is_price = |text: &str| text.parse().is_ok_and(|price: f64| price.is_finite() && price >= 0.0);
        if !price.is_none_or(is_price) {
            return Err(row.wrong(PRICE, "a price"));
        }
        let content = Content { category: row.optional(CATEGORY)?.map(str::to_owned), price: price.map(str::to_owned) };
        contents.insert(row.needed(SKU)?.to_owned(), content);
    }
    Ok(contents)
}

/// The hits of a folder, in the order of its rows, until the end or the first row that is wrong.
#[derive(Debug)]
pub struct Dataset {
    seed: u64,
    ordinal: u64,
    contents: Contents,
    table: Option<Table>,
}

impl Dataset {
    /// Opens a folder and reads what is known of its products.
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
    use crate::pump::hit::tests::{decoded, pairs};

    const HEAD: &str =
        "session_id_hash,event_type,product_action,product_sku_hash,server_timestamp_epoch_ms,hashed_url\n";

    /// A folder that is removed with it.
    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        /// A folder with the rows, and with the products unless that is `None`.
        pub(crate) fn of(name: &str, rows: &str, products: Option<&str>) -> Self {
            let path = env::temp_dir().join(format!("landfall-pump-{name}-{}", process::id()));
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
        let said = |error: DatasetError| error.to_string().replace(&format!("{}/", folder.0.display()), "");
        let dataset = match Dataset::open(&folder.0, 1) {
            Ok(dataset) => dataset,
            Err(error) => return (vec![], Some(said(error))),
        };
        let mut hits = Vec::new();
        for hit in dataset {
            match hit {
                Ok(hit) => hits.push(hit),
                Err(error) => return (hits, Some(said(error))),
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
    fn an_error_names_file_line_and_column() {
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
                "browsing_train.csv, line 3, column hashed_url: the row has 5 columns, and the first line has 6",
            ),
            (
                "s1,pageview,,,1,u,7",
                "browsing_train.csv, line 3, column 7: the row has 7 columns, and the first line has 6",
            ),
            ("s1,pageview,,,1,\"u", "browsing_train.csv, line 3, column hashed_url: the file ends inside quotes"),
        ] {
            let (hits, error) = read("bad", &format!("{good}{bad}"), None);
            assert_eq!((hits.len(), error.as_deref()), (1, Some(expected)));
        }
    }

    #[test]
    fn files_that_are_missing_or_others_are_told_at_once() {
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
