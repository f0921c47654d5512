//! What the build says of a mistake that the compiler of `proto/` finds. Only the build script uses it.

/// File, line and column of the mistake, what it is, and a likely cause.
pub(super) fn explained(error: &protox::Error) -> String {
    // Of the two texts of an error, only this one has the place.
    let text = format!("{error:?}");
    let hint = match text.ends_with("is not defined") {
        true => "; is it misspelt, or is an import missing?",
        false => "",
    };
    let folder = match error.file() {
        Some(file) if text.starts_with(file) => "proto/",
        _ => "",
    };
    format!("{folder}{text}{hint}")
}
