//! The search for an event in a queue.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use futures_util::future::join_all;

use super::Message;
use crate::{context::Context, queue};

/// Messages that are received at most.
const MOST_MESSAGES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct SearchedQueue {
    pub(super) found: Vec<Message>,
    pub(super) searched: usize,
    /// As far as the counters of the queue tell, which are approximate.
    pub(super) not_searched: usize,
}

/// Receives the messages of a queue and gives all of them back, or only counts them.
pub(super) async fn search(
    context: &Context,
    id: &str,
    part: &str,
    receive: bool,
) -> Result<(SearchedQueue, Vec<String>), String> {
    let sqs = &context.clients.sqs;
    let url = context.queue(part).await.map_err(|error| error.to_string())?;
    let (queue, depth) = queue::describe(sqs, &url).await.map_err(|error| error.to_string())?;
    let mut searched = SearchedQueue { not_searched: depth.waiting + depth.hidden, ..SearchedQueue::default() };
    if !receive {
        return Ok((searched, Vec::new()));
    }
    // Handles by message id: a message that was received again is given back by its last handle.
    let (received, problems) = (RefCell::new(BTreeMap::new()), RefCell::new(Vec::new()));
    let found = RefCell::new(BTreeSet::new());
    let receiver = || async {
        while received.borrow().len() < MOST_MESSAGES && !context.interrupt.is_set() {
            let messages = match queue::receive(sqs, &queue.url, queue::BATCH_ENTRIES, &context.pace).await {
                Ok(messages) if messages.is_empty() => return,
                Ok(messages) => messages,
                Err(error) => return problems.borrow_mut().push(error.to_string()),
            };
            for message in messages {
                let event_id = message.message.attributes.get("event_id").and_then(|value| value.string_value());
                if message.id == id || event_id == Some(id) {
                    found.borrow_mut().insert(message.id.clone());
                }
                received.borrow_mut().insert(message.id, message.handle);
            }
        }
    };
    join_all((0..context.pace.receivers.max(1)).map(|_| receiver())).await;
    let handles: Vec<String> = received.into_inner().into_values().collect();
    queue::release(sqs, &queue.url, &handles).await;
    let name = context.named(part);
    let found = found.into_inner().into_iter();
    searched.found = found.map(|message_id| Message { queue: name.clone(), message_id }).collect();
    searched.searched = handles.len();
    searched.not_searched = searched.not_searched.saturating_sub(handles.len());
    Ok((searched, problems.into_inner()))
}
