//! `landfall migrate`: the database gets the schema that the function needs.

use clap::Args;
use shared::registrar::{Command, Migrated};

use crate::{
    console::Console,
    context::Context,
    outcome::{Outcome, document},
    registrar::{RegistrarArgs, RegistrarError},
    text::printable,
};

const HELP: &str = "\
The migrations are part of the function, which applies those that the database does not have yet. Run
this after every deployment; it changes nothing when the database is up to date.

Exit code: 0 when the database is at the function's version, 2 when load-registrar refuses it, otherwise 1.

Examples:
  landfall migrate
  landfall migrate --function staging-load-registrar --json";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct MigrateArgs {
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

pub async fn migrate(args: &MigrateArgs, context: &Context, console: &Console) -> Result<Migrated, RegistrarError> {
    args.registrar.ask(&Command::Migrate {}, context, console).await
}

impl Outcome for Migrated {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(self)
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for migration in &self.applied {
            text += &format!("applied {}\n", printable(migration));
        }
        if self.applied.is_empty() {
            text += "nothing to apply; ";
        }
        text + &format!("the database is at version {}\n", self.version)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::canned::{self, Reply, run};

    #[tokio::test]
    async fn what_was_applied_is_listed() {
        let context = canned::registrar(|command| {
            assert_eq!(command, Command::Migrate {});
            Reply::Answer(json!({"applied": ["0001_tables", "0002_leases"], "version": 2}))
        })
        .await;
        let ended = run(&context, &["migrate"]).await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""));
        assert_eq!(ended.out, "applied 0001_tables\napplied 0002_leases\nthe database is at version 2\n");
        let machine = run(&context, &["--json", "migrate"]).await;
        assert_eq!(machine.json(), json!({"applied": ["0001_tables", "0002_leases"], "version": 2}));
    }
}
