//! Lists that the function answers in pages: asks for pages until there are enough rows, or no more.

use crate::{
    console::Console,
    context::Context,
    registrar::{RegistrarArgs, RegistrarError},
};

/// Maximum number of rows in one answer.
pub const PAGE: u32 = 1_000;

/// The rows of all pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T, P> {
    pub rows: Vec<T>,
    /// Where the next page starts, when there are more.
    pub next: Option<P>,
    /// Whether Ctrl-C ended the list.
    pub is_interrupted: bool,
}

/// Lists `limit` rows, or all if it is 0.
///
/// `page` asks for the page after a position, with a maximum number of rows.
pub async fn list<T, P: PartialEq + Clone>(
    limit: usize,
    things: &'static str,
    registrar: &RegistrarArgs,
    (context, console): (&Context, &Console),
    mut page: impl AsyncFnMut(Option<P>, u32) -> Result<(Vec<T>, Option<P>), RegistrarError>,
) -> Result<Listed<T, P>, RegistrarError> {
    let most = if limit == 0 { usize::MAX } else { limit };
    let progress = console.progress("Listing", things, (limit > 0).then_some(limit));
    let mut listed = Listed { rows: Vec::new(), next: None, is_interrupted: false };
    loop {
        let left = most.saturating_sub(listed.rows.len());
        let (rows, next) = page(listed.next.clone(), u32::try_from(left).unwrap_or(PAGE).min(PAGE)).await?;
        if next.is_some() && next == listed.next {
            return Err(registrar.stuck(context));
        }
        progress.add(rows.len());
        listed.rows.extend(rows);
        listed.next = next;
        if listed.next.is_none() || listed.rows.len() >= most {
            return Ok(listed);
        }
        if context.interrupt.is_set() {
            return Ok(Listed { is_interrupted: true, ..listed });
        }
    }
}
