//! `landfall replay dlq`: receive, send, and only then delete.
//!
//! A message is in one of the two queues at every moment, and in both for the moment between sending and deleting. What
//! was not sent is held until the end, so that it is not received again and again, and is then made visible.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

use clap::Args;
use futures_util::future::join_all;

use super::{
    QueueUrl, ReplayError,
    message::fitting,
    plan::batches,
    report::{Problem, Report},
};
use crate::{
    console::{Console, Progress},
    context::Context,
    queue::{self, BATCH_BYTES, BATCH_ENTRIES, Delivery, Depth, Outgoing, Queue, QueueError, Received},
    text::grouped,
};

const HELP: &str = "\
At least once, never lost: a message is received, sent with the same body and the same message
attributes, and deleted only when SQS has confirmed the copy. If the command dies in between, that
message is in both queues and is replayed again by the next run. Messages that could not be sent
stay in the dead-letter queue; they are visible again when the command ends, or after five minutes
if it was killed. A message that fails again and comes back while the command runs is left there.

To SQS a replayed message is a new one: it gets a new message id and a new time of sending.

--dry-run receives nothing. It reports the queue's own counters, which are approximate.

Exit code: 0 when everything was replayed, 2 when the arguments make no sense, otherwise 1.

Examples:
  landfall replay dlq --from https://sqs.eu-west-1.amazonaws.com/123456789012/landfall-events-dead-letter --dry-run
  landfall replay dlq --from $DLQ_URL --to $QUEUE_URL --limit 100
  AWS_ENDPOINT_URL=http://127.0.0.1:4566 landfall replay dlq --from $DLQ_URL --to $QUEUE_URL --json";

/// The arguments of `landfall replay dlq`.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct DlqArgs {
    /// Dead-letter queue to take messages from.
    #[arg(long, value_name = "QUEUE-URL")]
    pub from: QueueUrl,
    /// Queue to send them to. Without it, the one queue that has --from as its dead-letter queue.
    #[arg(long, value_name = "QUEUE-URL")]
    pub to: Option<QueueUrl>,
    /// Replay at most so many messages.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Only say how many there are.
    #[arg(long)]
    pub dry_run: bool,
}

/// Replays dead-lettered messages. `Err` means that nothing was done.
pub async fn replay(args: &DlqArgs, context: &Context, console: &Console) -> Result<Report, ReplayError> {
    let sqs = &context.clients.sqs;
    if args.to.as_ref() == Some(&args.from) {
        return Err(ReplayError::Usage("--from and --to are the same queue"));
    }
    let (from, depth) = queue::describe(sqs, args.from.as_str()).await?;
    let to = match &args.to {
        Some(to) => to.as_str().to_owned(),
        None => only_source(sqs, &from.url).await?,
    };
    let (to, _) = queue::describe(sqs, &to).await?;
    let mut report = Report::new("replay dlq", "messages", from.url.clone(), to.url.clone(), args.dry_run);
    if args.dry_run {
        counted(&mut report, depth, args.limit);
        return Ok(report);
    }
    let expected = depth.waiting.min(args.limit.unwrap_or(usize::MAX));
    let mover = Mover {
        context,
        from,
        to,
        progress: console.progress("Replaying", "messages", Some(expected)),
        state: RefCell::new(State { budget: args.limit, ..State::default() }),
    };
    mover.run().await;
    mover.finish(&mut report).await;
    Ok(report)
}

/// The only queue that has this one as its dead-letter queue.
async fn only_source(sqs: &aws_sdk_sqs::Client, from: &str) -> Result<String, ReplayError> {
    let mut sources = queue::dead_letter_sources(sqs, from).await.map_err(ReplayError::Sources)?;
    match (sources.pop(), sources.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(ReplayError::NoSource(from.to_owned())),
        (Some(last), false) => {
            sources.push(last);
            Err(ReplayError::ManySources { from: from.to_owned(), sources })
        }
    }
}

/// What a dry run knows.
fn counted(report: &mut Report, depth: Depth, limit: Option<usize>) {
    report.total.found = depth.waiting;
    report.total.sent = depth.waiting.min(limit.unwrap_or(usize::MAX));
    report.total.not_selected = report.total.found - report.total.sent;
    report.notes.push("the numbers are the queue's own and approximate; nothing was received".to_owned());
    if depth.hidden > 0 {
        report.notes.push(format!("about {} more are being worked on by someone else", grouped(depth.hidden)));
    }
}

struct Mover<'a> {
    context: &'a Context,
    from: Queue,
    to: Queue,
    progress: Progress,
    state: RefCell<State>,
}

/// What is known so far. It is never borrowed across an await.
#[derive(Debug, Default)]
struct State {
    /// How many more messages may be taken.
    budget: Option<usize>,
    /// Distinct messages received.
    found: usize,
    /// Ids, in the dead-letter queue, of messages that were sent.
    sent: HashSet<String>,
    /// Ids that they have in the other queue.
    arrived: HashSet<String>,
    /// Messages that were sent and are still in the dead-letter queue.
    undeleted: BTreeMap<String, String>,
    /// Messages that stay, by id: how to release them, and why.
    held: BTreeMap<String, Held>,
    /// Why the command ends early.
    stopped: Option<String>,
}

#[derive(Debug)]
struct Held {
    handle: String,
    reason: &'static str,
    detail: String,
}

impl State {
    /// Takes up to ten from the budget.
    fn reserve(&mut self) -> usize {
        let Some(budget) = &mut self.budget else { return BATCH_ENTRIES };
        let most = (*budget).min(BATCH_ENTRIES);
        *budget -= most;
        most
    }

    fn give_back(&mut self, unused: usize) {
        if let Some(budget) = &mut self.budget {
            *budget += unused;
        }
    }

    fn hold(&mut self, id: String, handle: String, reason: &'static str, detail: String) {
        self.held.insert(id, Held { handle, reason, detail });
    }

    /// Keeps the messages that are new here, and the handles of those that were sent already and are to be deleted.
    fn sort_out(&mut self, received: Vec<Received>) -> (Vec<Received>, Vec<(String, String)>) {
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        for message in received {
            if self.sent.contains(&message.id) {
                again.push((message.id, message.handle));
            } else if let Some(held) = self.held.get_mut(&message.id) {
                held.handle = message.handle;
            } else if self.arrived.contains(&message.id) {
                let detail = "it was replayed, failed again and is back in the dead-letter queue".to_owned();
                self.hold(message.id, message.handle, "came_back", detail);
            } else {
                fresh.push(message);
            }
        }
        self.found += fresh.len();
        (fresh, again)
    }
}

impl Mover<'_> {
    /// Moves messages until the queue is empty, the limit is reached or something is wrong.
    async fn run(&self) {
        let pace = &self.context.pace;
        let (mut empty_rounds, mut empty_since) = (0, None::<Instant>);
        loop {
            let before = self.state.borrow().found;
            join_all((0..pace.receivers.max(1)).map(|_| self.receive_until_empty())).await;
            if self.is_over() {
                return;
            }
            if self.state.borrow().found > before {
                (empty_rounds, empty_since) = (0, None);
                continue;
            }
            empty_rounds += 1;
            let since = *empty_since.get_or_insert_with(Instant::now);
            if empty_rounds < pace.empty_rounds {
                self.progress.say("making sure that there are no more");
                continue;
            }
            match queue::describe(&self.context.clients.sqs, &self.from.url).await {
                Ok((_, depth)) => {
                    let remaining = depth.waiting + depth.hidden.saturating_sub(self.state.borrow().held.len());
                    if remaining == 0 {
                        return;
                    }
                    if since.elapsed() >= pace.patience {
                        self.stop(unreachable(remaining));
                        return;
                    }
                    self.progress.say(&format!("waiting for about {} that others hold", grouped(remaining)));
                }
                Err(error) => return self.stop(error.to_string()),
            }
        }
    }

    fn is_over(&self) -> bool {
        if self.context.interrupt.is_set() {
            self.stop("interrupted".to_owned());
        }
        let state = self.state.borrow();
        state.stopped.is_some() || state.budget == Some(0)
    }

    /// Ends the command; the first cause counts.
    fn stop(&self, cause: String) {
        self.state.borrow_mut().stopped.get_or_insert(cause);
    }

    async fn receive_until_empty(&self) {
        loop {
            if self.is_over() {
                return;
            }
            let most = self.state.borrow_mut().reserve();
            if most == 0 {
                return;
            }
            let received = queue::receive(&self.context.clients.sqs, &self.from.url, most, &self.context.pace).await;
            let received = received.unwrap_or_else(|error: QueueError| {
                self.stop(error.to_string());
                Vec::new()
            });
            let is_empty = received.is_empty();
            let (fresh, again) = self.state.borrow_mut().sort_out(received);
            self.state.borrow_mut().give_back(most - fresh.len().min(most));
            if is_empty {
                return;
            }
            self.delete(again).await;
            self.move_on(fresh).await;
        }
    }

    /// Sends messages and deletes those that were sent.
    async fn move_on(&self, received: Vec<Received>) {
        let mut handles = HashMap::new();
        let mut messages: Vec<(String, Outgoing)> = Vec::new();
        for Received { id, handle, message } in received {
            match fitting(message, self.to.max_message_bytes) {
                Ok(message) => {
                    handles.insert(id.clone(), handle);
                    messages.push((id, message));
                }
                Err(problem) => {
                    self.state.borrow_mut().hold(id, handle, problem.reason(), problem.to_string());
                }
            }
        }
        let sizes: Vec<usize> = messages.iter().map(|(_, message)| message.bytes()).collect();
        for batch in batches(&sizes, BATCH_ENTRIES, BATCH_BYTES) {
            let batch = messages.get(batch).unwrap_or_default();
            let outgoing: Vec<&Outgoing> = batch.iter().map(|(_, message)| message).collect();
            let deliveries = queue::send(&self.context.clients.sqs, &self.to.url, &outgoing).await;
            let mut sent = Vec::new();
            for ((id, _), delivery) in batch.iter().zip(&deliveries) {
                let Some(handle) = handles.remove(id) else { continue };
                let mut state = self.state.borrow_mut();
                match delivery {
                    Delivery::Sent(new_id) => {
                        state.sent.insert(id.clone());
                        state.arrived.insert(new_id.clone());
                        sent.push((id.clone(), handle));
                    }
                    Delivery::Refused(cause) => state.hold(id.clone(), handle, "refused", cause.clone()),
                    Delivery::Failed(cause) => state.hold(id.clone(), handle, "not_sent", cause.clone()),
                }
            }
            if let Some(Delivery::Failed(cause)) = deliveries.first()
                && deliveries.iter().all(|delivery| matches!(delivery, Delivery::Failed(_)))
            {
                self.stop(format!("queue {} cannot be sent to: {cause}", self.to.url));
            }
            self.progress.add(sent.len());
            self.delete(sent).await;
        }
    }

    /// Deletes messages, given as id and handle, that are in the other queue now.
    async fn delete(&self, sent: Vec<(String, String)>) {
        if sent.is_empty() {
            return;
        }
        let (ids, handles): (Vec<String>, Vec<String>) = sent.into_iter().unzip();
        let gone = queue::delete(&self.context.clients.sqs, &self.from.url, &handles).await;
        let mut state = self.state.borrow_mut();
        for ((id, handle), gone) in ids.into_iter().zip(handles).zip(gone) {
            if gone {
                state.undeleted.remove(&id);
            } else {
                state.undeleted.insert(id, handle);
            }
        }
    }

    /// Releases what stays and reports.
    async fn finish(self, report: &mut Report) {
        let sqs = &self.context.clients.sqs;
        let State { budget, found, sent, undeleted, held, stopped, .. } = self.state.into_inner();
        let handles: Vec<String> = held.values().map(|held| held.handle.clone()).collect();
        queue::release(sqs, &self.from.url, &handles).await;
        report.total.found = found;
        report.total.sent = sent.len();
        report.total.left = found - sent.len();
        report.stopped = stopped;
        let at = self.from.url;
        report.problems.extend(held.into_iter().map(|(id, Held { reason, detail, .. })| Problem {
            reason,
            id: Some(id),
            at: at.clone(),
            detail,
        }));
        report.problems.extend(undeleted.into_keys().map(|id| Problem {
            reason: "sent_not_removed",
            id: Some(id),
            at: at.clone(),
            detail: "it was sent and could not be deleted here; the next replay would send it again".to_owned(),
        }));
        if budget == Some(0)
            && let Ok((_, depth)) = queue::describe(sqs, &at).await
            && depth.waiting > report.problems.len()
        {
            let remaining = grouped(depth.waiting - report.problems.len());
            report.notes.push(format!("the limit is reached; about {remaining} more messages wait in the queue"));
        }
    }
}

fn unreachable(remaining: usize) -> String {
    format!(
        "the queue says that it holds about {} more messages, and none can be received: someone else is working on \
         them; run it again later",
        grouped(remaining)
    )
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::{Value, json};

    use super::*;
    use crate::{Exit, canned, outcome::Outcome};

    const FROM: &str = "http://127.0.0.1:1/1/dead";
    const TO: &str = "http://127.0.0.1:1/1/events";

    fn args(to: Option<&str>) -> DlqArgs {
        DlqArgs { from: FROM.parse().unwrap(), to: to.map(|to| to.parse().unwrap()), limit: None, dry_run: false }
    }

    fn console() -> Console {
        Console::of(io::sink(), io::sink())
    }

    fn message(id: &str, handle: &str) -> Value {
        json!({"MessageId": id, "ReceiptHandle": handle, "Body": id})
    }

    /// Replays what a queue hands out, receive by receive, and gives back the bodies sent and the handles released.
    async fn replayed(
        receives: Vec<Vec<Value>>,
        undeletable: &'static str,
        can_send: bool,
    ) -> (Report, Vec<String>, Vec<String>) {
        let (sent, released) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (sees_sent, sees_released) = (sent.clone(), released.clone());
        let mut receives = receives.into_iter();
        let texts = |request: &Value, name: &str| -> Vec<String> {
            let entries = request["Entries"].as_array().unwrap().iter();
            entries.map(|entry| entry[name].as_str().unwrap().to_owned()).collect()
        };
        let ids = |texts: &[String], id: &dyn Fn(&str) -> Value| -> Vec<Value> {
            texts
                .iter()
                .enumerate()
                .map(|(position, text)| {
                    let mut entry = id(text);
                    entry["Id"] = json!(position.to_string());
                    entry
                })
                .collect()
        };
        let context = canned::context(move |action, request| match action {
            "GetQueueAttributes" => (200, json!({"Attributes": {"MaximumMessageSize": "1000"}})),
            "ReceiveMessage" => (200, json!({"Messages": receives.next().unwrap_or_default()})),
            "SendMessageBatch" if !can_send => (503, json!({"__type": "ServiceUnavailable", "message": "later"})),
            "SendMessageBatch" => {
                let bodies = texts(request, "MessageBody");
                sees_sent.lock().unwrap().extend(bodies.clone());
                let new = |body: &str| json!({"MessageId": format!("new-{body}"), "MD5OfMessageBody": ""});
                (200, json!({"Successful": ids(&bodies, &new), "Failed": []}))
            }
            "DeleteMessageBatch" => {
                let handles = texts(request, "ReceiptHandle");
                let gone = ids(&handles, &|handle| json!({"Handle": handle}));
                let gone: Vec<_> = gone.into_iter().filter(|gone| gone["Handle"] != undeletable).collect();
                (200, json!({"Successful": gone, "Failed": []}))
            }
            "ChangeMessageVisibilityBatch" => {
                sees_released.lock().unwrap().extend(texts(request, "ReceiptHandle"));
                (200, json!({"Successful": [], "Failed": []}))
            }
            other => panic!("{other}"),
        })
        .await;
        let report = replay(&args(Some(TO)), &context, &console()).await.unwrap();
        (report, sent.lock().unwrap().clone(), released.lock().unwrap().clone())
    }

    fn reasons(report: &Report) -> Vec<(&str, &str)> {
        report.problems.iter().map(|problem| (problem.id.as_deref().unwrap(), problem.reason)).collect()
    }

    #[tokio::test]
    async fn a_message_that_comes_back_is_left_and_the_command_ends() {
        let receives = vec![vec![message("a", "1")], vec![message("new-a", "2")], vec![], vec![message("new-a", "3")]];
        let (report, sent, released) = replayed(receives, "", true).await;
        assert_eq!(sent, ["a"]);
        assert_eq!((report.total.found, report.total.sent, report.total.left), (1, 1, 0));
        assert_eq!(reasons(&report), [("new-a", "came_back")]);
        assert_eq!(released, ["3"]);
        assert_eq!(report.exit(), Exit::Incomplete);
    }

    #[tokio::test]
    async fn a_message_that_sqs_hands_out_twice_is_sent_once() {
        let (report, sent, _) = replayed(vec![vec![message("a", "1")], vec![message("a", "2")]], "", true).await;
        assert_eq!(sent, ["a"]);
        assert_eq!(report.exit(), Exit::Complete);
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_deleted_is_reported_until_it_can() {
        let (report, sent, _) = replayed(vec![vec![message("a", "1"), message("b", "2")]], "1", true).await;
        assert_eq!(sent, ["a", "b"]);
        assert_eq!(reasons(&report), [("a", "sent_not_removed")]);
        assert_eq!(report.exit(), Exit::Incomplete);
        let later = vec![vec![message("a", "1")], vec![message("a", "2")]];
        assert_eq!(replayed(later, "1", true).await.0.exit(), Exit::Complete);
    }

    #[tokio::test]
    async fn when_sending_fails_everything_is_released_and_the_command_ends() {
        let (report, sent, released) = replayed(vec![vec![message("a", "1"), message("b", "2")]], "", false).await;
        assert_eq!((sent.len(), released), (0, vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(reasons(&report), [("a", "not_sent"), ("b", "not_sent")]);
        let cause = report.stopped.unwrap();
        assert!(cause.ends_with("cannot be sent to: ServiceUnavailable: later"), "{cause}");
    }

    #[tokio::test]
    async fn without_to_the_only_source_queue_is_found() {
        for (sources, expected) in [
            (
                json!([]),
                "no queue has http://127.0.0.1:1/1/dead as its dead-letter queue; name the queue to send to with --to",
            ),
            (json!([TO]), ""),
            (
                json!([TO, "http://127.0.0.1:1/1/b"]),
                "http://127.0.0.1:1/1/dead is the dead-letter queue of 2 queues (http://127.0.0.1:1/1/events, \
                 http://127.0.0.1:1/1/b); name the one to send to with --to",
            ),
        ] {
            let context = canned::context(move |action, _| match action {
                "ListDeadLetterSourceQueues" => (200, json!({"queueUrls": sources})),
                "GetQueueAttributes" => (200, json!({"Attributes": {"ApproximateNumberOfMessages": "7"}})),
                other => panic!("{other}"),
            })
            .await;
            match replay(&DlqArgs { dry_run: true, ..args(None) }, &context, &console()).await {
                Ok(report) => assert_eq!((report.to.as_str(), report.total.sent, expected), (TO, 7, "")),
                Err(error) => assert_eq!(error.to_string(), expected),
            }
        }
    }
}
