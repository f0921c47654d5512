//! How a command ends: what it found or did, for people and for machines, and an exit code.

use std::io;

use serde::Serialize;

use crate::{Exit, console::Console};

/// What a command found or did.
pub trait Outcome {
    /// One JSON document.
    fn to_json(&self) -> Result<String, serde_json::Error>;

    /// The same for people.
    fn to_text(&self) -> String;

    /// Whether everything that was asked for is done.
    fn exit(&self) -> Exit {
        Exit::Complete
    }
}

/// Why a command has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The reason.
    pub sentence: String,
    /// How the command ends.
    pub exit: Exit,
}

/// A value as one JSON document.
pub fn document(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Prints how a command ended.
pub fn conclude<O: Outcome>(result: Result<O, impl Into<Failed>>, json: bool, console: &mut Console) -> Exit {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            let Failed { sentence, exit } = error.into();
            console.error(&sentence);
            return exit;
        }
    };
    let text = if json { outcome.to_json().map_err(io::Error::from) } else { Ok(outcome.to_text()) };
    match text.and_then(|text| console.result(&text)) {
        Ok(()) => outcome.exit(),
        Err(cause) => {
            console.error(&format!("the result could not be printed: {cause}"));
            Exit::Incomplete
        }
    }
}
