//! Moves the objects of loads that are done, to the archive or out of the way, and files to where they belong.
//!
//! Each step can be done again: what is copied is copied again, and deleting what is gone succeeds. Nothing is deleted before its
//! copy has been seen.

use std::collections::BTreeSet;

use objects::{Bucket, BucketError, ListedVersion, S3, Version};
use shared::registrar::Load;
use tracing::warn;

use crate::{app::App, companion::Companions, error::IngestError, place::Places};

/// What became of the object of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It is where it belongs, and no longer in the incoming bucket.
    There,
    /// It was gone before it could be moved.
    Gone,
}

/// Archives the object of a load, and moves its files to where they belong.
pub async fn archive(app: &App, load: &Load) -> Result<Moved, IngestError> {
    let places = Places::of(load);
    if let Some(from) = load.complete_in.as_deref().filter(|from| *from != load.place) {
        move_files(app, load, from).await?;
    }
    let to = places.archived(&load.place);
    let mut moved = move_object(app, load, &to).await?;
    // An archived load that belongs elsewhere now has its object in the archive.
    for former in load.places.iter().filter(|former| **former != load.place) {
        if move_within(&app.lake, &places.archived(former), &to).await? {
            moved = Moved::There;
        }
        move_within(&app.lake, &with_dfm(&places.archived(former)), &with_dfm(&to)).await?;
    }
    remove_files(app, load, load.result.as_ref().map(|result| result.files)).await?;
    Ok(moved)
}

/// Moves the object of a load that could not be ingested out of the way, and removes files that were begun.
pub async fn error(app: &App, load: &Load) -> Result<Moved, IngestError> {
    remove_files(app, load, Some(0)).await?;
    move_object(app, load, &Places::of(load).errored()).await
}

/// Copies the version that was registered, with the `.dfm` beside it, and then deletes it.
async fn move_object(app: &App, load: &Load, to: &str) -> Result<Moved, IngestError> {
    let places = Places::of(load);
    let mut is_here = true;
    let moved = match app.lake.copy(&app.incoming, places.object(), to).await {
        Ok(()) => Moved::There,
        Err(BucketError::Missing { .. } | BucketError::Replaced { .. }) => match app.lake.head(to).await {
            // It was moved before, and only the answer was lost.
            Ok(_) => {
                is_here = false;
                Moved::There
            }
            Err(BucketError::Missing { .. }) => Moved::Gone,
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    if moved == Moved::There {
        check(app, load, to).await?;
        let dfm = copy_dfm(app, load, &with_dfm(to), is_here).await?;
        delete(app, places.object()).await?;
        if let Some(dfm) = dfm
            && !Companions::of(&app.incoming, load).await?.is_needed(&dfm)
        {
            delete(app, dfm.version()).await?;
        }
    }
    Ok(moved)
}

/// The copy has to have the size of the object, or nothing is deleted.
async fn check(app: &App, load: &Load, to: &str) -> Result<(), IngestError> {
    let head = app.lake.head(to).await?;
    if head.size == u64::try_from(load.s3_size).unwrap_or_default() {
        return Ok(());
    }
    Err(app.lake.conflict(to).into())
}

/// `1201-LOAD001.csv.gz.dfm`.
fn with_dfm(key: &str) -> String {
    format!("{key}.dfm")
}

/// Copies the `.dfm` of a load. When the object is gone already, so may be its `.dfm`, and one that is not its own stays.
async fn copy_dfm(app: &App, load: &Load, to: &str, is_here: bool) -> Result<Option<ListedVersion>, IngestError> {
    let companions = Companions::of(&app.incoming, load).await?;
    let Some(chosen) = companions.chosen().filter(|chosen| is_here || chosen.is_own) else {
        return Ok(None);
    };
    match app.lake.copy(&app.incoming, chosen.dfm.version(), to).await {
        Ok(()) => Ok(Some(chosen.dfm.clone())),
        Err(BucketError::Missing { .. } | BucketError::Replaced { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Deletes a version, unless it was replaced in a bucket without versions.
async fn delete(app: &App, version: Version<'_>) -> Result<(), IngestError> {
    match app.incoming.delete_version(version).await {
        Ok(()) | Err(BucketError::Replaced { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Moves an object within the lake, if it exists.
async fn move_within(lake: &S3, from: &str, to: &str) -> Result<bool, IngestError> {
    match copy_within(lake, from, to).await {
        Ok(()) => {
            lake.delete(&[from.to_owned()]).await?;
            Ok(true)
        }
        Err(BucketError::Missing { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Copies the version that an object has now.
async fn copy_within(lake: &S3, from: &str, to: &str) -> Result<(), BucketError> {
    let head = lake.head(from).await?;
    lake.copy(lake, Version { key: from, id: head.version.as_deref(), e_tag: &head.e_tag }, to).await
}

/// Copies all files to the folder in which they belong. Those in other ones are removed afterwards.
async fn move_files(app: &App, load: &Load, from: &str) -> Result<(), IngestError> {
    let places = Places::of(load);
    let Some(result) = &load.result else {
        return move_listed(app, load, from).await;
    };
    // A job that was interrupted may have moved them before, to here or to a place that is none any more.
    let former = load.places.iter().map(String::as_str).filter(|place| *place != from && *place != load.place);
    let folders: Vec<&str> = [from, &load.place].into_iter().chain(former).collect();
    for number in 0..result.files {
        let to = places.file(number);
        let mut copied = Err(BucketError::Missing { bucket: app.lake.name().to_owned(), key: to.clone() });
        for folder in &folders {
            let key = format!("{}{number}.parquet", places.files_in(folder));
            copied = match key == to {
                true => app.lake.head(&key).await.map(|_| ()),
                false => copy_within(&app.lake, &key, &to).await,
            };
            if !matches!(copied, Err(BucketError::Missing { .. })) {
                break;
            }
        }
        copied?;
    }
    Ok(())
}

/// Copies the files of a job that did not say how many there are.
async fn move_listed(app: &App, load: &Load, from: &str) -> Result<(), IngestError> {
    let (here, there) = (Places::of(load).files_in(from), Places::of(load).files_in(&load.place));
    let listed = app.lake.list(&here).await?;
    if listed.is_empty() {
        warn!(load = load.id, from, "no files of the load are where they were; a job may have given them other names");
    }
    for file in listed {
        copy_within(&app.lake, &file.key, &format!("{there}{}", file.key.trim_start_matches(&here))).await?;
    }
    Ok(())
}

/// Removes the files of a load from all folders in which they may be, but its first `keep` in the one where they belong. `None` keeps
/// all of them there.
async fn remove_files(app: &App, load: &Load, keep: Option<u32>) -> Result<(), IngestError> {
    let places = Places::of(load);
    let kept: BTreeSet<String> = (0..keep.unwrap_or_default()).map(|number| places.file(number)).collect();
    let mut folders: BTreeSet<&str> = load.places.iter().map(String::as_str).collect();
    folders.insert(&load.place);
    for folder in folders {
        if keep.is_none() && folder == load.place {
            continue;
        }
        let listed = app.lake.list(&places.files_in(folder)).await?;
        let gone: Vec<String> = listed.into_iter().map(|file| file.key).filter(|key| !kept.contains(key)).collect();
        if !gone.is_empty() {
            warn!(load = load.id, folder, files = gone.len(), "files that belong there no longer are removed");
            app.lake.delete(&gone).await?;
        }
    }
    Ok(())
}
