//! User agents that this execution environment has parsed: a few browsers send most hits, and parsing one of their user agents takes
//! as long as a fifth of the rest of the hit.
//!
//! What is kept is chosen by clients and may be personal. So it is bounded in bytes and not in entries, compared as a whole,
//! and nothing but an event with the same user agent gets it.

use std::{cell::RefCell, collections::HashMap, fmt, mem, rc::Rc};

use serde_json::value::{RawValue, to_raw_value};

use crate::agent::{agent, cut};

/// Most bytes of a generation. There are two, so at most twice as much is kept.
const MOST_BYTES: usize = 128 << 10;
/// About what an entry takes besides its texts.
const ENTRY_BYTES: usize = 96;

thread_local! {
    // The function has one thread.
    static SEEN: RefCell<Seen> = RefCell::default();
}

/// What was found in a user agent, as it is stored. `None` if it is empty.
pub(crate) fn stored(text: &str) -> Result<Option<Rc<RawValue>>, serde_json::Error> {
    let text = cut(text);
    if text.is_empty() {
        return Ok(None);
    }
    SEEN.with_borrow_mut(|seen| {
        if let Some(agent) = seen.get(text) {
            return Ok(Some(agent));
        }
        let agent: Rc<RawValue> = to_raw_value(&agent(text))?.into();
        seen.keep(text.into(), agent.clone());
        Ok(Some(agent))
    })
}

/// Texts in two generations. When the young one is full, it becomes the old one, and what nobody asked for since is forgotten.
#[derive(Default)]
struct Seen {
    young: HashMap<Box<str>, Rc<RawValue>>,
    young_bytes: usize,
    old: HashMap<Box<str>, Rc<RawValue>>,
}

impl Seen {
    fn get(&mut self, text: &str) -> Option<Rc<RawValue>> {
        if let Some(agent) = self.young.get(text) {
            return Some(agent.clone());
        }
        let (text, agent) = self.old.remove_entry(text)?;
        self.keep(text, agent.clone());
        Some(agent)
    }

    fn keep(&mut self, text: Box<str>, agent: Rc<RawValue>) {
        let bytes = text.len() + agent.get().len() + ENTRY_BYTES;
        if self.young_bytes + bytes > MOST_BYTES {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(text, agent);
    }
}

/// Shows numbers only.
impl fmt::Debug for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { young, young_bytes, old } = self;
        formatter
            .debug_struct("Seen")
            .field("young", &young.len())
            .field("young_bytes", young_bytes)
            .field("old", &old.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(seen: &Seen) -> usize {
        [&seen.young, &seen.old].into_iter().flatten().map(|(text, agent)| text.len() + agent.get().len()).sum()
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_bounded() {
        let mut seen = Seen::default();
        let value: Rc<RawValue> = to_raw_value("browser").unwrap().into();
        seen.keep("usual".into(), value.clone());
        for at in 0..5_000 {
            seen.keep(format!("{at}-{}", "x".repeat(1_000)).into(), value.clone());
            assert!(bytes(&seen) <= 2 * MOST_BYTES, "{seen:?}");
            assert!(seen.get("usual").is_some(), "{seen:?}");
        }
        assert!(seen.get(&format!("0-{}", "x".repeat(1_000))).is_none());
        assert!(!format!("{seen:?}").contains('x'));
    }

    proptest! {
        #[test]
        fn a_user_agent_that_was_seen_gives_the_same_again(texts in prop::collection::vec("[a-c]{0,2}|Mozilla/5.0 .{0,60}", 1..40)) {
            for text in texts {
                let expected = agent(&text).map(|agent| serde_json::to_string(&agent).unwrap());
                let found = stored(&text).unwrap().map(|agent| agent.get().to_owned());
                prop_assert_eq!(found, expected);
            }
        }
    }
}
