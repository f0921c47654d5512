//! The outcome of a command as text, as JSON and as an exit code.

use std::io;

use serde::Serialize;

use crate::{Exit, console::Console};

pub trait Outcome {
    fn to_json(&self) -> Result<String, serde_json::Error>;

    fn to_text(&self) -> String;

    fn exit(&self) -> Exit {
        Exit::Complete
    }

    /// An error to print besides the outcome.
    fn error(&self) -> Option<String> {
        None
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    pub sentence: String,
    pub exit: Exit,
}

pub fn document(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Adds `complete`, which is true when the exit code is 0.
pub fn document_with_verdict(value: &impl Serialize, exit: Exit) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct WithVerdict<'a, T> {
        complete: bool,
        #[serde(flatten)]
        value: &'a T,
    }
    document(&WithVerdict { complete: exit == Exit::Complete, value })
}

/// Prints the outcome or the error.
pub fn conclude<O: Outcome>(result: Result<O, impl Into<Failed>>, json: bool, console: &mut Console) -> Exit {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            let Failed { sentence, exit } = error.into();
            console.error(&sentence);
            return exit;
        }
    };
    if let Some(error) = outcome.error() {
        console.error(&error);
    }
    let text = if json { outcome.to_json().map_err(io::Error::from) } else { Ok(outcome.to_text()) };
    match text.and_then(|text| console.result(&text)) {
        Ok(()) => outcome.exit(),
        Err(cause) => {
            console.error(&format!("the result could not be printed: {cause}"));
            Exit::Incomplete
        }
    }
}
