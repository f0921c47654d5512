//! An S3 in memory for kafka-roller, in which every call waits until the test lets it continue. So a test determines in which
//! order the calls of several invocations are executed, which of them fail, and after which call an invocation dies.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    ops::Range,
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use objects::{Attributes, Bucket, BucketError, Created, Head, Listed, Upload};

use crate::roles;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is executed.
    Done,
    /// It fails without being executed.
    Refused,
    /// It is executed, but the caller gets an error. Of a deletion, only the first half is executed.
    AnswerLost,
    /// S3 answers 409 to a conditional write, because another one is in progress.
    Raced,
}

#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) body: Bytes,
    pub(crate) metadata: HashMap<String, String>,
    /// The world's clock when it was written, in milliseconds.
    pub(crate) written_ms: i64,
    pub(crate) e_tag: String,
}

type Decide = Box<dyn FnMut(&str) -> Fate>;

/// The objects of both buckets and a log of all calls.
#[derive(Default)]
pub(crate) struct State {
    /// `bucket/key` → object.
    pub(crate) objects: BTreeMap<String, Object>,
    /// The newest object that has ever been under a key, as a bucket with versions keeps it.
    newest: BTreeMap<String, Object>,
    pub(crate) uploads: BTreeMap<String, (HashMap<String, String>, Vec<u8>)>,
    begun: usize,
    /// Number of objects that were written.
    written: usize,
    /// Whether a deletion is executed only in part.
    halves: bool,
    /// Every call that was executed, such as `create lake/staging/…`, in order.
    pub(crate) calls: Vec<String>,
    /// Number of calls that may continue. `None`: no call waits.
    turns: Option<usize>,
    /// Decides what happens to each call.
    fate: Option<Decide>,
    /// Number of keys in one page of a listing.
    page: Option<usize>,
    pub(crate) clock_ms: i64,
}

/// A handle on the world.
#[derive(Clone, Default)]
pub(crate) struct World(pub(crate) Rc<RefCell<State>>);

impl World {
    /// A bucket of this world.
    pub(crate) fn bucket(&self, name: &str) -> Sim {
        Sim { world: self.clone(), name: name.into() }
    }

    /// From now on every call waits for [`turn`](Self::turn), and `fate` decides what happens to it.
    pub(crate) fn take_turns(&self, page: usize, fate: impl FnMut(&str) -> Fate + 'static) {
        self.fail(fate);
        let mut state = self.0.borrow_mut();
        (state.turns, state.page) = (Some(0), Some(page));
    }

    /// From now on `fate` decides what happens to each call, such as `create lake/staging/…`.
    pub(crate) fn fail(&self, fate: impl FnMut(&str) -> Fate + 'static) {
        self.0.borrow_mut().fate = Some(Box::new(fate));
    }

    /// Lets one call be executed, or one response be returned.
    pub(crate) fn turn(&self) {
        if let Some(turns) = &mut self.0.borrow_mut().turns {
            *turns = 1;
        }
    }

    /// From now on every call is executed at once.
    pub(crate) fn run_freely(&self) {
        let mut state = self.0.borrow_mut();
        (state.turns, state.fate) = (None, None);
    }

    /// Adds a note to the log of calls.
    pub(crate) fn note(&self, note: String) {
        self.0.borrow_mut().calls.push(note);
    }

    /// The calls since this was last called.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().calls)
    }

    /// Writes an object on behalf of another process.
    pub(crate) fn place(&self, path: &str, body: &'static [u8]) {
        self.0.borrow_mut().create(path, Bytes::from_static(body), HashMap::new());
    }

    /// The same, with metadata.
    pub(crate) fn put(&self, path: &str, body: Bytes, metadata: &[(&'static str, String)]) {
        let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.0.borrow_mut().put(path, body, metadata);
    }

    /// Deletes an object on behalf of another process.
    pub(crate) fn remove(&self, path: &str) {
        self.0.borrow_mut().objects.remove(path);
    }

    /// Objects whose `bucket/key` starts with `prefix`.
    pub(crate) fn objects(&self, prefix: &str) -> Vec<(String, Object)> {
        let state = self.0.borrow();
        let objects = state.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        objects.map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    async fn wait(&self) {
        poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            match &mut state.turns {
                None => Poll::Ready(()),
                Some(turns) if *turns > 0 => {
                    *turns -= 1;
                    Poll::Ready(())
                }
                Some(_) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        })
        .await;
    }
}

/// One bucket of the world.
#[derive(Clone)]
pub(crate) struct Sim {
    world: World,
    name: Rc<str>,
}

impl Sim {
    /// Waits, executes the call or not, and waits again, since an invocation may die before a call and before its response.
    async fn call<T>(
        &self,
        name: &'static str,
        key: &str,
        call: impl FnOnce(&mut State, &str) -> Result<T, BucketError>,
    ) -> Result<T, BucketError> {
        let operation = match name {
            "create" => "PutObject",
            "begin" => "CreateMultipartUpload",
            "part" => "UploadPart",
            "complete" => "CompleteMultipartUpload",
            "abort" => "AbortMultipartUpload",
            "get" => "GetObject",
            "replace" => "PutObject",
            "newest" => "ListObjectVersions",
            "head" => "HeadObject",
            "delete" => "DeleteObjects",
            _ => "ListObjectsV2",
        };
        roles::roller().assert_allows_s3(operation, &self.name, key);
        match name {
            "newest" => roles::roller().assert_allows_s3("GetObjectVersion", &self.name, key),
            // S3 wants it for `If-Match`.
            "replace" => roles::roller().assert_allows_s3("GetObject", &self.name, key),
            _ => {}
        }
        self.world.wait().await;
        let path = format!("{}/{key}", self.name);
        let (fate, result) = {
            let mut state = self.world.0.borrow_mut();
            let call_name = format!("{name} {path}");
            let fate = state.fate.as_mut().map_or(Fate::Done, |fate| fate(&call_name));
            let is_conditional = matches!(name, "create" | "replace" | "complete");
            let fate = if fate == Fate::Raced && !is_conditional { Fate::Refused } else { fate };
            state.halves = fate == Fate::AnswerLost;
            let result = matches!(fate, Fate::Done | Fate::AnswerLost).then(|| {
                let result = call(&mut state, &path);
                state.calls.push(call_name);
                assert!(state.calls.len() < 200_000, "the function makes calls without end");
                result
            });
            (fate, result)
        };
        self.world.wait().await;
        match (fate, result) {
            (Fate::Done, Some(result)) => result,
            (Fate::Raced, _) => Err(BucketError::Raced { bucket: self.name.to_string(), key: key.into() }),
            _ => Err(BucketError::Failed {
                verb: name,
                bucket: self.name.to_string(),
                key: key.into(),
                cause: "fate".into(),
            }),
        }
    }
}

fn missing(path: &str) -> BucketError {
    let (bucket, key) = path.split_once('/').unwrap();
    BucketError::Missing { bucket: bucket.into(), key: key.into() }
}

impl State {
    fn create(&mut self, path: &str, body: Bytes, metadata: HashMap<String, String>) -> Created {
        if self.objects.contains_key(path) {
            return Created::Exists;
        }
        self.put(path, body, metadata)
    }

    fn put(&mut self, path: &str, body: Bytes, metadata: HashMap<String, String>) -> Created {
        self.written += 1;
        let e_tag = self.written.to_string();
        let object = Object { body, metadata, written_ms: self.clock_ms, e_tag: e_tag.clone() };
        self.newest.insert(path.to_owned(), object.clone());
        self.objects.insert(path.to_owned(), object);
        Created::New { e_tag }
    }
}

fn head(object: &Object) -> Head {
    let (e_tag, metadata) = (object.e_tag.clone(), object.metadata.clone());
    Head { e_tag, size: object.body.len() as u64, metadata, version: None }
}

fn metadata(attributes: &Attributes) -> HashMap<String, String> {
    attributes.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

impl Bucket for Sim {
    fn name(&self) -> &str {
        &self.name
    }

    async fn list_while(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Listed>, BucketError> {
        let mut listed: Vec<Listed> = Vec::new();
        loop {
            let after = listed.last().map(|object| &*object.key).or(start_after);
            let after = after.map(|key| format!("{}/{key}", self.name));
            let (page, full) = self
                .call("list", prefix, |state, path| {
                    let most = state.page.unwrap_or(1_000);
                    let objects = state.objects.iter().filter(|(key, _)| key.starts_with(path));
                    let objects = objects.filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
                    let page = objects.take(most).map(|(key, object)| Listed {
                        key: key.split_once('/').unwrap().1.to_owned(),
                        size: object.body.len() as u64,
                        modified_ms: Some(object.written_ms),
                    });
                    let page: Vec<Listed> = page.collect();
                    let full = page.len() == most;
                    Ok((page, full))
                })
                .await?;
            let end = page.iter().position(|object| !wanted(&object.key));
            listed.extend(page.into_iter().take(end.unwrap_or(usize::MAX)));
            if !full || end.is_some() {
                return Ok(listed);
            }
        }
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        self.call("list", prefix, |state, path| {
            let keys = state.objects.keys().filter_map(|key| key.strip_prefix(path));
            let folders = keys.filter_map(|rest| Some(rest.split_once('/')?.0.to_owned()));
            Ok(folders.collect::<std::collections::BTreeSet<_>>().into_iter().collect())
        })
        .await
    }

    async fn get(&self, key: &str, bytes: Option<u64>) -> Result<Bytes, BucketError> {
        self.call("get", key, |state, path| {
            let body = state.objects.get(path).ok_or_else(|| missing(path))?.body.clone();
            Ok(bytes.map_or(body.clone(), |bytes| body.slice(..usize::try_from(bytes).unwrap().min(body.len()))))
        })
        .await
    }

    async fn get_tagged(&self, key: &str) -> Result<(Bytes, String), BucketError> {
        self.call("get", key, |state, path| {
            let object = state.objects.get(path).ok_or_else(|| missing(path))?;
            Ok((object.body.clone(), object.e_tag.clone()))
        })
        .await
    }

    async fn range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        self.call("get", key, |state, path| {
            let body = &state.objects.get(path).ok_or_else(|| missing(path))?.body;
            let at = |at: u64| usize::try_from(at).unwrap().min(body.len());
            Ok(body.slice(at(range.start)..at(range.end)))
        })
        .await
    }

    async fn replace(
        &self,
        key: &str,
        body: Bytes,
        attributes: &Attributes,
        e_tag: &str,
    ) -> Result<Created, BucketError> {
        self.call("replace", key, |state, path| match state.objects.get(path) {
            None => Err(missing(path)),
            Some(object) if object.e_tag != e_tag => Ok(Created::Exists),
            Some(_) => Ok(state.put(path, body, metadata(attributes))),
        })
        .await
    }

    async fn newest(&self, key: &str) -> Result<Option<Head>, BucketError> {
        self.call("newest", key, |state, path| Ok(state.newest.get(path).map(head))).await
    }

    fn sibling(&self, name: &str) -> Self {
        self.world.bucket(name)
    }

    async fn create(&self, key: &str, body: Bytes, attributes: &Attributes) -> Result<Created, BucketError> {
        self.call("create", key, |state, path| Ok(state.create(path, body, metadata(attributes)))).await
    }

    async fn head(&self, key: &str) -> Result<Head, BucketError> {
        self.call("head", key, |state, path| state.objects.get(path).map(head).ok_or_else(|| missing(path))).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        self.call("delete", &keys[0], |state, _| {
            let some = if state.halves { keys.len() / 2 } else { keys.len() };
            keys.iter().take(some).for_each(|key| drop(state.objects.remove(&format!("{}/{key}", self.name))));
            Ok(())
        })
        .await
    }

    async fn begin(&self, key: &str, attributes: &Attributes) -> Result<Upload, BucketError> {
        self.call("begin", key, |state, path| {
            state.begun += 1;
            let id = format!("{path}#{}", state.begun);
            state.uploads.insert(id.clone(), (metadata(attributes), Vec::new()));
            Ok(Upload::new(key, &id))
        })
        .await
    }

    async fn part(&self, upload: &mut Upload, body: Bytes) -> Result<(), BucketError> {
        let id = upload.id().to_owned();
        self.call("part", upload.key(), |state, _| {
            state.uploads.get_mut(&id).unwrap().1.extend_from_slice(&body);
            Ok(())
        })
        .await
    }

    async fn complete(&self, upload: &Upload) -> Result<Created, BucketError> {
        self.call("complete", upload.key(), |state, path| {
            let (metadata, body) = state.uploads[upload.id()].clone();
            let created = state.create(path, body.into(), metadata);
            if created != Created::Exists {
                state.uploads.remove(upload.id());
            }
            Ok(created)
        })
        .await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), BucketError> {
        self.call("abort", upload.key(), |state, _| {
            state.uploads.remove(upload.id());
            Ok(())
        })
        .await
    }
}
