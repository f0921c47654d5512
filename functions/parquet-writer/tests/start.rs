//! The binary itself, in its init phase.

use std::process::Command;

#[test]
fn a_bad_setting_stops_the_init_phase_with_a_sentence_that_names_the_variable() {
    for (settings, sentence) in [
        (
            &[("NOTIFY", "s3")][..],
            "environment variable LAKE_BUCKET is not set; it names the bucket that files are written to",
        ),
        (
            &[("NOTIFY", "s3"), ("LAKE_BUCKET", "lake"), ("OUTPUT_FORMAT", "csv")],
            "environment variable OUTPUT_FORMAT is \"csv\"; it must be \"parquet\", \"ndjson\" or \"ndjson.gz\"",
        ),
    ] {
        let mut function = Command::new(env!("CARGO_BIN_EXE_parquet-writer"));
        let ended = function.env_clear().envs(settings.iter().copied()).output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        let said = String::from_utf8(ended.stdout).unwrap();
        assert!(said.contains(sentence), "{said}");
    }
}
