//! Statements and comments → the text of a script.

use serde::Serialize;

use crate::{
    ddl::schema::Layout,
    outcome::{Outcome, document},
};

/// The width of comments.
const WIDTH: usize = 100;
const INDENT: &str = "  ";

/// A statement, and what has to be known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub about: String,
    /// Without the semicolon.
    pub sql: String,
}

impl Statement {
    pub fn new(about: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { about: about.into(), sql: sql.into() }
    }
}

/// What `landfall ddl` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub dialect: &'static str,
    pub layout: Layout,
    /// The command that makes it again.
    pub command: String,
    pub notes: Vec<String>,
    pub statements: Vec<Statement>,
}

impl Outcome for Script {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Document<'a> {
            dialect: &'a str,
            layout: &'a str,
            command: &'a str,
            notes: &'a [String],
            statements: Vec<&'a str>,
        }
        document(&Document {
            dialect: self.dialect,
            layout: self.layout.as_str(),
            command: &self.command,
            notes: &self.notes,
            statements: self.statements.iter().map(|statement| statement.sql.as_str()).collect(),
        })
    }

    fn to_text(&self) -> String {
        let mut text = format!("-- Made by: {}\n", self.command);
        for note in &self.notes {
            text.push_str("--\n");
            comment(note, &mut text);
        }
        for Statement { about, sql } in &self.statements {
            text.push('\n');
            comment(about, &mut text);
            text.push_str(sql);
            text.push_str(";\n");
        }
        text
    }
}

/// Words as lines of comments.
fn comment(words: &str, text: &mut String) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line.clear();
        }
        line.push_str(if line.is_empty() { "-- " } else { " " });
        line.push_str(word);
    }
    if !line.is_empty() {
        text.push_str(&line);
        text.push('\n');
    }
}

/// Items on lines of their own between `open` and `close`, which is indented `depth` times.
pub fn block(open: &str, items: impl IntoIterator<Item = String>, close: &str, depth: usize) -> String {
    let (outside, inside) = (INDENT.repeat(depth), INDENT.repeat(depth + 1));
    let items: Vec<String> = items.into_iter().map(|item| format!("{inside}{item}")).collect();
    format!("{open}\n{}\n{outside}{close}", items.join(",\n"))
}
