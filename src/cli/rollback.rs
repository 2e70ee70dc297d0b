//! `headrace rollback`: puts the last good configuration back and tells the process that serves. Which one is good is what
//! `server.state_dir` says: those that a process took.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::probe::{Method, Url, ask};
use crate::config::{Config, check};
use crate::control::{ConfigStore, replace_file};

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The configuration file that is to be put back.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Where the last good ones are kept, in place of the file's own `server.state_dir`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Put the file back and tell nobody.
    #[arg(long)]
    pub(crate) no_reload: bool,
}

pub(crate) fn run(args: RollbackArgs) -> ExitCode {
    match roll_back(&args) {
        Ok(told) => {
            super::say(&told);
            ExitCode::SUCCESS
        }
        Err(why) => {
            super::complain(&format!("headrace rollback: {why}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a short-lived command that reads one file")]
fn roll_back(args: &RollbackArgs) -> Result<String, String> {
    let file = args.config.display();
    let written = std::fs::read_to_string(&args.config).unwrap_or_default();
    let folder = args.state_dir.clone().or_else(|| state_dir(&written));
    let folder = folder.ok_or_else(|| format!("{file} does not say `server.state_dir`; name the folder with --state-dir"))?;
    let (which, text) = chosen(&ConfigStore::new(&folder), &written).map_err(|error| format!("{}: {error}", folder.display()))?;
    let text = text.ok_or_else(|| format!("{} keeps no other configuration that was taken before", folder.display()))?;
    // What was good may not be any more, for a newer program.
    let config = check(&format!("{} configuration in {}", which, folder.display()), &text).map_err(|mistakes| mistakes.to_string())?;
    replace_file(&args.config, &text).map_err(|error| format!("{file}: {error}"))?;
    let told = format!("{file} is the {which} good configuration again");
    if args.no_reload {
        return Ok(told);
    }
    reload(&config).map(|()| format!("{told}, and the process has taken it")).map_err(|why| format!("{told}, but {why}"))
}

/// A file that is not the one in force goes back to that one; the one in force goes back to the one before.
fn chosen(store: &ConfigStore, written: &str) -> std::io::Result<(&'static str, Option<String>)> {
    let current = store.current()?;
    if current.is_some() && current.as_deref() != Some(written) {
        return Ok(("last", current));
    }
    Ok(("previous", store.previous()?))
}

/// From a file that may have mistakes elsewhere.
fn state_dir(text: &str) -> Option<PathBuf> {
    let table: toml::Table = text.parse().ok()?;
    table.get("server")?.get("state_dir")?.as_str().map(Path::new).map(Path::to_owned)
}

fn reload(config: &Config) -> Result<(), String> {
    let url = Url { authority: config.admin.listen.to_string(), target: "/-/reload".to_owned() };
    match ask(&url, Method::Post("")) {
        Ok((200, _)) => Ok(()),
        Ok((_, body)) => Err(body.trim_end().to_owned()),
        Err(why) => Err(format!("nobody answers on {} ({why}): start headrace, or send it SIGHUP", url.authority)),
    }
}
