//! Flags that say whose rights are left once `run` and `serve` listen, and what they need to be able to use then.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::Result;
use clap::{ArgAction, Args, builder::FalseyValueParser};
use log::{Level, info, warn};
use tokio::time::interval;

use super::{exit::Exit, serve::ListenArgs, source::ModelArgs};
use crate::{
    api::{AppState, PrivilegeHealth, PrivilegeState},
    model::Source,
    privilege::{self, Account, AccountError, FolderError, Kept, Places, Standing, State, refused_calls},
};

/// How often refused system calls are looked for.
const LOOK: Duration = Duration::from_secs(2);
const HEADING: &str = "Privileges";

/// The flags.
#[derive(Args, Clone, Debug)]
pub(super) struct PrivilegeArgs {
    /// Account that root becomes before it listens, as NAME or UID, with :GROUP if need be [default: ml-ids if there is such an
    /// account, else nobody]
    #[arg(long, env = "ML_IDS_USER", value_name = "USER", help_heading = HEADING)]
    user: Option<String>,
    /// Go on with all rights of the start, and without limits of file access and system calls. Not advised
    #[arg(long, env = "ML_IDS_KEEP_PRIVILEGES", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new(), help_heading = HEADING)]
    keep_privileges: bool,
}

/// Rights until they end, and what is to work afterwards.
pub(super) struct Rights {
    account: Arc<Account>,
    keep: bool,
    places: Places,
}

impl PrivilegeArgs {
    /// Who is going to serve.
    ///
    /// # Errors
    /// When there is no such account, or it cannot be had.
    pub(super) fn rights(&self) -> Result<Rights, AccountError> {
        let account = if self.keep_privileges { Account::current() } else { Account::find(self.user.as_deref())? };
        Ok(Rights { account: Arc::new(account), keep: self.keep_privileges, places: Places::default() })
    }
}

/// Tells the user why there is nobody to become.
pub(super) fn report(error: &AccountError) -> Exit {
    eprintln!("error: {error}");
    Exit::Usage
}

impl Rights {
    /// Who is going to serve.
    pub(super) fn account(&self) -> Arc<Account> {
        Arc::clone(&self.account)
    }

    /// A folder that is going to be written to. It is made if root has to make it for the account.
    ///
    /// # Errors
    /// When the account will not be able to write to it.
    pub(super) fn folder(&mut self, path: &Path, mode: u32, flag: &'static str) -> Result<(), FolderError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        self.places.write.push(path.to_owned());
        self.account.folder(path, mode, flag)
    }

    /// Folders that this process has given away itself.
    pub(super) fn own(&mut self, folders: Vec<PathBuf>) {
        self.places.write.extend(folders);
    }

    /// A file that is read at the start and again later. Says if it cannot be.
    pub(super) fn read_again(&mut self, path: &Path) {
        self.places.read_file(path);
        if self.account.changes() && !self.account.can_read(path) {
            warn!(
                "{} will not be read again: {}, whom this process becomes, cannot read it; let that account read it (chgrp, \
                 chmod g+r), or start anew when it has changed",
                path.display(),
                self.account.name()
            );
        }
    }

    /// What the API reads again at SIGHUP.
    pub(super) fn listening(&mut self, listen: &ListenArgs) {
        for file in listen.files() {
            self.read_again(file);
        }
    }

    /// What models come from. A cache that cannot be written to is said, and no reason not to start.
    pub(super) fn models(&mut self, model: &ModelArgs, shadow: Option<&Source>) {
        let sources = [Some(&model.source()), shadow].into_iter().flatten().cloned().collect::<Vec<_>>();
        for source in &sources {
            if let Source::File(path) = source {
                self.read_again(path);
            }
        }
        let remote = sources.iter().any(|source| !matches!(source, Source::File(_) | Source::Embedded));
        if let Some(directory) = model.cache_directory().filter(|_| remote)
            && let Err(error) = self.folder(&directory, 0o700, "--model-cache")
        {
            warn!("models cannot be kept for the day on which their server is away: {:#}", anyhow::Error::from(error));
        }
    }

    /// Ends them in all threads, for good, but for what `kept` says, and tells the API what is left.
    ///
    /// # Errors
    /// When that fails. Then nothing may go on.
    pub(super) fn end(self, kept: &[Kept], state: &Arc<AppState>) -> Result<()> {
        let Self { account, keep, places } = self;
        let standing = if keep {
            warn!(
                "ALL PRIVILEGES ARE KEPT (--keep-privileges): whoever takes this process over through traffic, a model or a \
                 request has them, too"
            );
            privilege::keep_all()?
        } else {
            privilege::drop_all(&account, kept, &places)?
        };
        log(&account, &standing);
        state.set_privileges(health(standing));
        tokio::spawn(watch(Arc::downgrade(state)));
        Ok(())
    }
}

fn log(account: &Account, standing: &Standing) {
    let Standing { state, uid, gid, capabilities, seccomp, landlock, why, .. } = standing;
    if *state == State::Kept {
        return;
    }
    let capabilities = if capabilities.is_empty() { "none".to_owned() } else { capabilities.join(" ") };
    let filter = if *seccomp { "system calls are filtered" } else { "system calls are not filtered" };
    let files = landlock.map_or_else(
        || "this kernel has no Landlock to limit file access".to_owned(),
        |version| format!("file access is limited (Landlock {version})"),
    );
    info!(
        "privileges have ended: user {} ({uid}:{gid}), capabilities: {capabilities}; {filter}; {files}",
        account.name()
    );
    // With all of them ended, what is said is a remark.
    let level = if *state == State::Dropped { Level::Info } else { Level::Warn };
    for why in why {
        log::log!(level, "privileges: {why}");
    }
}

fn health(standing: Standing) -> PrivilegeHealth {
    let Standing { state, uid, gid, capabilities, no_new_privs, seccomp, landlock, why } = standing;
    PrivilegeHealth {
        state: match state {
            State::Dropped => PrivilegeState::Dropped,
            State::Kept => PrivilegeState::Kept,
            State::Partial => PrivilegeState::Partial,
        },
        uid,
        gid,
        capabilities,
        no_new_privs,
        seccomp,
        landlock: landlock.map_or_else(|| "unavailable".to_owned(), |version| format!("abi {version}")),
        why: (!why.is_empty()).then(|| why.join("; ")),
    }
}

/// Says once of each system call that it was refused, for as long as there is an API.
async fn watch(state: Weak<AppState>) {
    let mut told = 0;
    let mut ticks = interval(LOOK);
    loop {
        ticks.tick().await;
        let Some(state) = state.upgrade() else { return };
        let refused = refused_calls();
        if refused.len() > told {
            told = refused.len();
            warn!(
                "the filter of system calls has refused numbers {refused:?} (`ausyscall NUMBER` names one): what asked for them \
                 has failed; report it unless somebody is attacking this process"
            );
            state.set_refused_calls(refused);
        }
    }
}
