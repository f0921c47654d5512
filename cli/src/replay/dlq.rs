//! `landfall replay dlq`: receive a message, send it, and only then delete it.
//!
//! Every message is in at least one of the two queues at any time, and in both between sending and deleting. A message
//! that could not be sent stays hidden until the command ends, so that it is not received over and over, and is then
//! made visible again.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    time::Instant,
};

use clap::{Args, ValueEnum};
use futures_util::future::join_all;

use super::{
    ReplayError, Stop,
    message::{check_size, identify},
    plan::batches,
    queue_url,
    report::{Problem, Report},
};
use crate::{
    console::{Console, Progress},
    context::Context,
    queue::{self, BATCH_BYTES, BATCH_ENTRIES, Delivery, Depth, Outgoing, Queue, Received},
    stack,
    text::grouped,
};

const HELP: &str = "\
Each message is received, sent with its body and message attributes, and deleted only when SQS has
confirmed the copy. If the command is killed in between, the next run sends that message again. Messages
that could not be sent, or that fail again while the command runs, stay in the dead-letter queue.

To SQS a replayed message is a new one: it gets a new message id and a new time of sending. An event without
the attribute event_id gets its original message id as event_id, so that its row can be told apart from
others, and dropped if it lands twice. The README says when SQS's own redrive (StartMessageMoveTask) is the
better tool.

Exit code: 0 when everything was replayed, 2 when the arguments are invalid, otherwise 1.

Examples:
  landfall replay dlq --dry-run
  landfall --stack staging replay dlq --queue puts --limit 100
  landfall replay dlq --from $DLQ_URL --to $QUEUE_URL --json";

/// A queue of the stack that has a dead-letter queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StackQueue {
    /// Events for parquet-writer.
    Events,
    /// S3 notifications for load-registrar.
    Puts,
}

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct DlqArgs {
    /// Queue of the stack whose dead-lettered messages are replayed.
    #[arg(long, value_enum, default_value = "events")]
    pub queue: StackQueue,
    /// Dead-letter queue to take messages from, if it is not one of the stack.
    #[arg(long, value_name = "QUEUE-URL", value_parser = queue_url, requires = "to", conflicts_with = "queue")]
    pub from: Option<String>,
    /// Queue to send them to.
    #[arg(long, value_name = "QUEUE-URL", value_parser = queue_url, requires = "from")]
    pub to: Option<String>,
    /// Replay at most N messages.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Only count the messages.
    #[arg(long)]
    pub dry_run: bool,
}

const fn stack_queue(queue: StackQueue) -> &'static str {
    match queue {
        StackQueue::Events => stack::EVENTS,
        StackQueue::Puts => stack::PUTS,
    }
}

/// Replays dead-lettered messages. `Err` means that nothing was done.
pub async fn replay(args: &DlqArgs, context: &Context, console: &Console) -> Result<Report, ReplayError> {
    let sqs = &context.clients.sqs;
    let (from, to) = match (&args.from, &args.to) {
        (Some(from), Some(to)) if from == to => {
            return Err(ReplayError::Usage("--from and --to are the same queue".to_owned()));
        }
        (Some(from), Some(to)) => (from.clone(), to.clone()),
        _ => {
            let name = stack_queue(args.queue);
            (context.queue(&format!("{name}-dead-letter")).await?, context.queue(name).await?)
        }
    };
    let (from, depth) = queue::describe(sqs, &from).await?;
    let (to, _) = queue::describe(sqs, &to).await?;
    let mut report = Report {
        command: "replay dlq",
        things: "messages",
        from: from.url.clone(),
        to: to.url.clone(),
        dry_run: args.dry_run,
        ..Report::default()
    };
    let expected = depth.waiting.min(args.limit.unwrap_or(usize::MAX));
    if args.dry_run {
        count(&mut report, depth, expected);
        return Ok(report);
    }
    let mover = Mover {
        context,
        from,
        to,
        identifies: args.queue == StackQueue::Events,
        progress: console.progress("Replaying", "messages", Some(expected)),
        stop: Stop::default(),
        state: RefCell::new(State { budget: args.limit, ..State::default() }),
    };
    mover.run().await;
    mover.finish(&mut report).await;
    Ok(report)
}

fn count(report: &mut Report, depth: Depth, selected: usize) {
    report.total.found = depth.waiting;
    report.total.sent = selected;
    report.total.not_selected = depth.waiting - selected;
    report.notes.push("the numbers are the queue's own and approximate; nothing was received".to_owned());
    if depth.hidden > 0 {
        report.notes.push(format!("about {} more messages are in flight at another receiver", grouped(depth.hidden)));
    }
}

struct Mover<'a> {
    context: &'a Context,
    from: Queue,
    to: Queue,
    /// Whether the messages are events, which keep their ids.
    identifies: bool,
    progress: Progress,
    stop: Stop,
    state: RefCell<State>,
}

/// What is known so far. It is never borrowed across an await.
#[derive(Debug, Default)]
struct State {
    /// How many more messages may be taken.
    budget: Option<usize>,
    found: usize,
    /// Ids, in the dead-letter queue, of messages that were sent.
    sent: HashSet<String>,
    /// The ids of the same messages in the other queue. SQS keeps a message's id when it moves it to a dead-letter
    /// queue, so a message that fails again is recognised by it.
    arrived: HashSet<String>,
    /// Ids of messages that were sent and are still in the dead-letter queue.
    undeleted: HashSet<String>,
    /// Messages that stay in the dead-letter queue, by id.
    held: BTreeMap<String, Held>,
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

    /// Keeps the messages that are received for the first time, and those that were sent already and are to be deleted.
    fn sort_out(&mut self, received: Vec<Received>) -> (Vec<Received>, Vec<Received>) {
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        for message in received {
            if self.sent.contains(&message.id) {
                again.push(message);
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
    /// Moves messages until the queue is empty, the limit is reached or an error stops it.
    async fn run(&self) {
        let pace = &self.context.pace;
        let mut empty_since = None::<Instant>;
        loop {
            let before = self.state.borrow().found;
            join_all((0..pace.receivers.max(1)).map(|_| self.receive_until_empty())).await;
            if self.is_over() {
                return;
            }
            if self.state.borrow().found > before {
                empty_since = None;
                continue;
            }
            match queue::describe(&self.context.clients.sqs, &self.from.url).await {
                Ok((_, depth)) => {
                    let remaining = depth.waiting + depth.hidden.saturating_sub(self.state.borrow().held.len());
                    if remaining == 0 {
                        return;
                    }
                    if empty_since.get_or_insert_with(Instant::now).elapsed() >= pace.empty_timeout {
                        return self.stop.set(unreachable(remaining));
                    }
                    let remaining = grouped(remaining);
                    self.progress.say(&format!("waiting for about {remaining} messages in flight at another receiver"));
                }
                Err(error) => return self.stop.set(error.to_string()),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop.is_set(&self.context.interrupt) || self.state.borrow().budget == Some(0)
    }

    async fn receive_until_empty(&self) {
        while !self.is_over() {
            let most = self.state.borrow_mut().reserve();
            let received = queue::receive(&self.context.clients.sqs, &self.from.url, most, &self.context.pace).await;
            let received = received.unwrap_or_else(|error| {
                self.stop.set(error.to_string());
                Vec::new()
            });
            let is_empty = received.is_empty();
            let (fresh, again) = self.state.borrow_mut().sort_out(received);
            self.state.borrow_mut().give_back(most.saturating_sub(fresh.len()));
            if is_empty {
                return;
            }
            self.delete(again).await;
            self.move_on(fresh).await;
        }
    }

    /// Sends messages and deletes those that were sent.
    async fn move_on(&self, received: Vec<Received>) {
        let mut messages = Vec::new();
        for mut received in received {
            let message = &mut received.message;
            let identified = if self.identifies { identify(message, &received.id) } else { Ok(()) };
            match identified.and_then(|()| check_size(message, self.to.max_message_bytes)) {
                Ok(()) => messages.push(received),
                Err(problem) => {
                    let Received { id, handle, .. } = received;
                    self.state.borrow_mut().hold(id, handle, problem.reason(), problem.to_string());
                }
            }
        }
        let sizes: Vec<usize> = messages.iter().map(|received| received.message.bytes()).collect();
        for batch in batches(&sizes, BATCH_ENTRIES, BATCH_BYTES) {
            let batch: Vec<Received> = messages.drain(..batch.len()).collect();
            let outgoing: Vec<&Outgoing> = batch.iter().map(|received| &received.message).collect();
            let deliveries = queue::send(&self.context.clients.sqs, &self.to.url, &outgoing).await;
            self.stop.set_if_all_failed(&self.to.url, &deliveries);
            let mut sent = Vec::new();
            for (received, delivery) in batch.into_iter().zip(deliveries) {
                let mut state = self.state.borrow_mut();
                let (reason, cause) = match delivery {
                    Delivery::Sent(new_id) => {
                        state.sent.insert(received.id.clone());
                        state.arrived.insert(new_id);
                        sent.push(received);
                        continue;
                    }
                    Delivery::Refused(cause) => ("refused", cause),
                    Delivery::Failed(cause) => ("not_sent", cause),
                };
                state.hold(received.id, received.handle, reason, cause);
            }
            self.progress.add(sent.len());
            self.delete(sent).await;
        }
    }

    /// Deletes messages that are in the other queue now.
    async fn delete(&self, sent: Vec<Received>) {
        let handles: Vec<String> = sent.iter().map(|received| received.handle.clone()).collect();
        let gone = queue::delete(&self.context.clients.sqs, &self.from.url, &handles).await;
        let undeleted = &mut self.state.borrow_mut().undeleted;
        for (Received { id, .. }, gone) in sent.into_iter().zip(gone) {
            let _was_in = if gone { undeleted.remove(&id) } else { undeleted.insert(id) };
        }
    }

    /// Makes the messages that stay visible and reports.
    async fn finish(self, report: &mut Report) {
        let sqs = &self.context.clients.sqs;
        let State { budget, found, sent, undeleted, held, .. } = self.state.into_inner();
        let handles: Vec<String> = held.values().map(|held| held.handle.clone()).collect();
        queue::release(sqs, &self.from.url, &handles).await;
        report.total.found = found;
        report.total.sent = sent.len();
        report.total.left = found - sent.len();
        report.stopped = self.stop.cause();
        let at = self.from.url;
        let problem = |reason, id, detail| Problem { reason, id: Some(id), at: at.clone(), detail };
        report.problems.extend(held.into_iter().map(|(id, held)| problem(held.reason, id, held.detail)));
        report.problems.extend(undeleted.into_iter().map(|id| {
            let detail = "it was sent and could not be deleted here; the next replay would send it again";
            problem("sent_not_removed", id, detail.to_owned())
        }));
        if budget == Some(0)
            && let Ok((_, depth)) = queue::describe(sqs, &at).await
            && depth.waiting > report.problems.len()
        {
            let remaining = grouped(depth.waiting - report.problems.len());
            report.notes.push(format!("the limit is reached; about {remaining} more messages are in the queue"));
        }
    }
}

fn unreachable(remaining: usize) -> String {
    format!(
        "the queue counts about {} more messages, and none can be received: another receiver has them in flight; run \
         this again later",
        grouped(remaining)
    )
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use kit::sqs::{self, Entry};
    use serde_json::{Value, json};

    use super::*;
    use crate::{Exit, canned, outcome::Outcome};

    const FROM: &str = "http://127.0.0.1:1/1/dead";
    const TO: &str = "http://127.0.0.1:1/1/events";

    fn args() -> DlqArgs {
        DlqArgs {
            queue: StackQueue::Events,
            from: Some(FROM.to_owned()),
            to: Some(TO.to_owned()),
            limit: None,
            dry_run: false,
        }
    }

    fn console() -> Console {
        Console::of(io::sink(), io::sink())
    }

    fn message(id: &str, handle: &str) -> Value {
        json!({"MessageId": id, "ReceiptHandle": handle, "Body": id})
    }

    /// Replays what a queue hands out, receive by receive, and returns the bodies sent and the handles released.
    async fn replayed(
        receives: Vec<Vec<Value>>,
        undeletable: &'static str,
        can_send: bool,
    ) -> (Report, Vec<String>, Vec<String>) {
        let (sent, released) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (sees_sent, sees_released) = (sent.clone(), released.clone());
        let mut receives = receives.into_iter();
        let context = canned::sqs(move |action, request| match action {
            "GetQueueAttributes" => (200, json!({"Attributes": {"MaximumMessageSize": "1000"}})),
            "ReceiveMessage" => (200, json!({"Messages": receives.next().unwrap_or_default()})),
            "SendMessageBatch" if !can_send => (503, json!({"__type": "ServiceUnavailable", "message": "later"})),
            "SendMessageBatch" => {
                let sent = sqs::batch(request, |entry| {
                    let body = entry["MessageBody"].as_str().unwrap();
                    sees_sent.lock().unwrap().push(body.to_owned());
                    sqs::sent(&format!("new-{body}"))
                });
                (200, sent)
            }
            "DeleteMessageBatch" => {
                let gone = sqs::batch(request, |entry| match entry["ReceiptHandle"] == undeletable {
                    true => Entry::Silent,
                    false => Entry::Done(json!({})),
                });
                (200, gone)
            }
            "ChangeMessageVisibilityBatch" => {
                let visible = sqs::batch(request, |entry| {
                    sees_released.lock().unwrap().push(entry["ReceiptHandle"].as_str().unwrap().to_owned());
                    Entry::Done(json!({}))
                });
                (200, visible)
            }
            other => panic!("{other}"),
        })
        .await;
        let report = replay(&args(), &context, &console()).await.unwrap();
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
    async fn an_event_without_event_id_keeps_its_message_id_as_one() {
        for (queue, with_id, expected) in [
            (StackQueue::Events, false, json!("m-1")),
            (StackQueue::Events, true, json!("order-1")),
            (StackQueue::Puts, false, Value::Null),
        ] {
            let sent = Arc::new(Mutex::new(Value::Null));
            let sees_sent = sent.clone();
            let own = json!({"event_id": {"DataType": "String", "StringValue": "order-1"}});
            let attributes = if with_id { own } else { json!({}) };
            let first = json!({"MessageId": "m-1", "ReceiptHandle": "1", "Body": "x", "MessageAttributes": attributes});
            let mut receives = vec![vec![first]].into_iter();
            let context = canned::sqs(move |action, request| match action {
                "GetQueueUrl" => (200, json!({"QueueUrl": format!("http://sqs/1/{}", request["QueueName"])})),
                "GetQueueAttributes" => (200, json!({"Attributes": {}})),
                "ReceiveMessage" => (200, json!({"Messages": receives.next().unwrap_or_default()})),
                "SendMessageBatch" => {
                    *sees_sent.lock().unwrap() =
                        request["Entries"][0]["MessageAttributes"]["event_id"]["StringValue"].clone();
                    (200, sqs::batch(request, |_| sqs::sent("m-2")))
                }
                _ => (200, sqs::batch(request, |_| Entry::Done(json!({})))),
            })
            .await;
            let args = DlqArgs { queue, from: None, to: None, ..args() };
            assert_eq!(replay(&args, &context, &console()).await.unwrap().exit(), Exit::Complete);
            assert_eq!(*sent.lock().unwrap(), expected);
        }
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
    async fn a_dry_run_reports_the_counters() {
        let context = canned::sqs(|action, _| match action {
            "GetQueueAttributes" => (200, json!({"Attributes": {"ApproximateNumberOfMessages": "7"}})),
            other => panic!("{other}"),
        })
        .await;
        let args = DlqArgs { dry_run: true, limit: Some(5), ..args() };
        let report = replay(&args, &context, &console()).await.unwrap();
        assert_eq!((report.total.found, report.total.sent, report.total.not_selected), (7, 5, 2));
    }
}
