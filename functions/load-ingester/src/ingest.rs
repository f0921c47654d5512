//! One load: its object → files in Springboard.

use std::time::Duration;

use bytes::Bytes;
use objects::{ListedVersion, S3};
use runtime::clock;
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::{
    metrics::CountsByReason,
    registrar::{Load, LoadResult, OnMisfit, TableKind},
};
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};

use crate::{
    app::App,
    companion::{self, Companions},
    convert::{self, ConvertError, Declaration, Dfm, Format, ParquetInfo, Plan, Summary, convert, parquet_info},
    error::{Hopeless, IngestError},
    place::Places,
    read::{Pipe, read},
    write::{Outlet, Written, write},
};

/// Raise it when the same object and plan give other bytes than before.
const CONVERSION: u32 = 1;
/// Answers of S3 that wait for the conversion, and what it made that waits for S3.
const QUEUED: usize = 4;
/// Qlik writes the `.dfm` after the object, and a load can be claimed before.
const DFM_COMES_WITHIN: Duration = Duration::from_secs(600);
/// The end of a Parquet file that is read for its footer.
const FOOTER_BYTES: u64 = 256 << 10;

/// What became of a load.
#[derive(Debug, Default)]
pub struct Ingested {
    pub result: LoadResult,
    pub quarantined: CountsByReason,
}

/// Ingests the object of a load within `time`.
pub async fn ingest(app: &App, load: &Load, time: Duration) -> Result<Ingested, IngestError> {
    let size = u64::try_from(load.s3_size).unwrap_or_default();
    if size > app.config.max_object_bytes {
        let (has, limit) = (size >> 20, app.config.max_object_bytes >> 20);
        return Err(IngestError::Hopeless(
            Hopeless::TooLarge,
            format!("the object has {has} MiB, and the limit is {limit}"),
        ));
    }
    let ingested = async {
        match Format::of_key(&load.s3_key) {
            Some(format) => converted(app, load, format, size).await,
            None if load.s3_key.to_ascii_lowercase().ends_with(".parquet") => copied(app, load, size).await,
            None => {
                Err(IngestError::Hopeless(Hopeless::UnknownFormat, "the end of the key names no format".to_owned()))
            }
        }
    };
    timeout(time, ingested).await.unwrap_or(Err(IngestError::Time))
}

async fn converted(app: &App, load: &Load, format: Format, size: u64) -> Result<Ingested, IngestError> {
    let plan = plan(app, load, format).await?;
    let id = plan_id(&plan);
    let (bytes_to, bytes_from) = mpsc::channel::<Bytes>(QUEUED);
    let (made_to, made_from) = mpsc::channel(QUEUED);
    let mut outlet = Outlet::new(made_to, load.clone());
    let converting = spawn_blocking(move || convert(Pipe::new(bytes_from, size), &plan, &mut outlet));
    let reading = read(&app.incoming, Places::of(load).object(), size, bytes_to);
    let (read, written, summary) = tokio::join!(reading, write(app, load, &id, made_from), converting);
    // What failed first makes the others fail: the object, then the files.
    let summary: Result<Summary, ConvertError> = summary.map_err(|_| IngestError::Thread)?;
    read.map_err(IngestError::of_object)?;
    let written = match (written, &summary) {
        (Err(error), _) => return Err(error),
        (Ok(written), _) => written,
    };
    Ok(ingested(summary?, written))
}

fn ingested(summary: Summary, written: Written) -> Ingested {
    let result = LoadResult {
        rows: summary.rows,
        quarantined: summary.quarantined,
        nulled: summary.nulled,
        files: written.files,
        bytes: written.bytes,
        declared_records: summary.record_count_mismatch(),
        missing: summary.missing,
        added: summary.added,
    };
    Ingested { result, quarantined: written.quarantined }
}

/// What is to be done with the object: by its table's declaration, or else by the `.dfm` beside it.
async fn plan(app: &App, load: &Load, format: Format) -> Result<Plan, IngestError> {
    let mut plan = Plan::new(format);
    plan.zstd_level = app.config.zstd_level;
    plan.changes = load.changes;
    plan.on_misfit = match load.on_misfit {
        OnMisfit::Quarantine => convert::OnMisfit::Quarantine,
        OnMisfit::Fail => convert::OnMisfit::Fail,
        OnMisfit::Null => convert::OnMisfit::Null,
    };
    plan.footer = vec![
        ("landfall.load".to_owned(), load.id.to_string()),
        ("landfall.table".to_owned(), load.table.clone()),
        ("landfall.key".to_owned(), load.s3_key.clone()),
        ("landfall.etag".to_owned(), load.s3_etag.clone()),
    ];
    if load.kind == TableKind::Ods {
        let companions = Companions::of(&app.incoming, load).await?;
        match companions.chosen() {
            Some(chosen) if chosen.is_own || !is_recent(load) => plan = plan.with_dfm(dfm(app, chosen.dfm).await?),
            // Columns that are declared do not wait for one.
            _ if load.columns.is_none() && is_recent(load) => return Err(IngestError::Waiting),
            _ => {}
        }
    }
    if let Some(columns) = &load.columns {
        plan.columns = Some(Declaration::parse(json!(columns).to_string().as_bytes())?);
    }
    Ok(plan)
}

async fn dfm(app: &App, listed: &ListedVersion) -> Result<Dfm, IngestError> {
    let mut object = app.incoming.open_version(listed.version(), 0).await?;
    let mut bytes = Vec::new();
    while let Some(some) = object.next().await? {
        bytes.extend_from_slice(&some);
        if bytes.len() > companion::MAX_BYTES {
            let what = format!("{} is larger than {} MiB", listed.key, companion::MAX_BYTES >> 20);
            return Err(IngestError::Hopeless(Hopeless::ColumnsUnusable, what));
        }
    }
    Ok(Dfm::parse(&bytes)?)
}

fn is_recent(load: &Load) -> bool {
    clock::age(load.s3_modified.as_millisecond()) < DFM_COMES_WITHIN
}

/// The same for the same plan.
fn plan_id(plan: &Plan) -> String {
    let hash = Sha256::digest(format!("{CONVERSION} {plan:?}"));
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A Parquet file is copied as it is, after its footer was read.
async fn copied(app: &App, load: &Load, size: u64) -> Result<Ingested, IngestError> {
    let info = footer(&app.incoming, load, size).await?;
    let places = Places::of(load);
    app.lake.copy(&app.incoming, places.object(), &places.file(0)).await.map_err(IngestError::of_object)?;
    let result = LoadResult { rows: info.rows, files: 1, bytes: size, ..LoadResult::default() };
    Ok(Ingested { result, ..Ingested::default() })
}

async fn footer(bucket: &S3, load: &Load, size: u64) -> Result<ParquetInfo, IngestError> {
    let mut wanted = FOOTER_BYTES;
    loop {
        let object = bucket.open_version(Places::of(load).object(), size.saturating_sub(wanted)).await;
        let mut object = object.map_err(IngestError::of_object)?;
        let mut end = Vec::new();
        while let Some(bytes) = object.next().await? {
            end.extend_from_slice(&bytes);
        }
        match parquet_info(&Bytes::from(end), size) {
            Err(ConvertError::FooterNeeds(bytes)) if bytes as u64 > wanted => wanted = bytes as u64,
            Err(error) => return Err(error.into()),
            Ok(info) => return Ok(info),
        }
    }
}
