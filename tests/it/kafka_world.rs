//! An S3 in memory for kafka-roller, in which every call waits until the test lets it continue. So a test determines in which
//! order the calls of several invocations are executed, which of them fail, and after which call an invocation dies.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    future::poll_fn,
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
    /// It is executed, but the caller gets an error.
    AnswerLost,
}

#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) body: Bytes,
    pub(crate) metadata: HashMap<String, String>,
    /// The world's clock when it was written, in milliseconds.
    pub(crate) written_ms: i64,
}

type Decide = Box<dyn FnMut(&str) -> Fate>;

/// The objects of both buckets and a log of all calls.
#[derive(Default)]
pub(crate) struct State {
    /// `bucket/key` → object.
    pub(crate) objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, (HashMap<String, String>, Vec<u8>)>,
    begun: usize,
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
    pub(crate) fn bucket(&self, name: &'static str) -> Sim {
        Sim { world: self.clone(), name }
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
    name: &'static str,
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
            "head" => "HeadObject",
            "delete" => "DeleteObjects",
            _ => "ListObjectsV2",
        };
        roles::roller().assert_allows_s3(operation, self.name, key);
        self.world.wait().await;
        let path = format!("{}/{key}", self.name);
        let (fate, result) = {
            let mut state = self.world.0.borrow_mut();
            let call_name = format!("{name} {path}");
            let fate = state.fate.as_mut().map_or(Fate::Done, |fate| fate(&call_name));
            let result = (fate != Fate::Refused).then(|| {
                let result = call(&mut state, &path);
                state.calls.push(call_name);
                result
            });
            (fate, result)
        };
        self.world.wait().await;
        match (fate, result) {
            (Fate::Done, Some(result)) => result,
            _ => {
                Err(BucketError::Failed { verb: name, bucket: self.name.into(), key: key.into(), cause: "fate".into() })
            }
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
        self.objects.insert(path.to_owned(), Object { body, metadata, written_ms: self.clock_ms });
        Created::New { e_tag: String::new() }
    }
}

fn metadata(attributes: &Attributes) -> HashMap<String, String> {
    attributes.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

impl Bucket for Sim {
    fn name(&self) -> &str {
        self.name
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
                        modified_ms: None,
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

    async fn get(&self, key: &str, bytes: Option<u64>) -> Result<Bytes, BucketError> {
        self.call("get", key, |state, path| {
            let body = state.objects.get(path).ok_or_else(|| missing(path))?.body.clone();
            Ok(bytes.map_or(body.clone(), |bytes| body.slice(..usize::try_from(bytes).unwrap().min(body.len()))))
        })
        .await
    }

    async fn create(&self, key: &str, body: Bytes, attributes: &Attributes) -> Result<Created, BucketError> {
        self.call("create", key, |state, path| Ok(state.create(path, body, metadata(attributes)))).await
    }

    async fn head(&self, key: &str) -> Result<Head, BucketError> {
        self.call("head", key, |state, path| {
            let object = state.objects.get(path).ok_or_else(|| missing(path))?;
            let (size, metadata) = (object.body.len() as u64, object.metadata.clone());
            Ok(Head { e_tag: String::new(), size, metadata, version: None })
        })
        .await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        self.call("delete", &keys[0], |state, _| {
            keys.iter().for_each(|key| drop(state.objects.remove(&format!("{}/{key}", self.name))));
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
