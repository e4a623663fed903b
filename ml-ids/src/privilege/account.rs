//! Whose rights are left: the account that a sensor started by root becomes.

use nix::unistd::{Gid, Group, Uid, User, setgroups, setresgid, setresuid};

use super::{PrivilegeError, capability};

/// What root becomes unless told otherwise: the first of these that there is.
const DEFAULTS: [&str; 2] = ["ml-ids", "nobody"];
/// `nobody` where there is no list of accounts, as in a small image.
const NOBODY: u32 = 65_534;

/// Why there is nobody to become.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No such name.
    #[error("--user {0}: there is no such account; make one (useradd --system {0}), or give a number")]
    Unknown(String),
    /// No such group.
    #[error("--user {0}: there is no such group; make one (groupadd --system), or give a number")]
    UnknownGroup(String),
    /// Not ours to choose.
    #[error("--user {0}: only root can become another user; start as root or leave --user away")]
    NotRoot(String),
    /// Root without the right to stop being it.
    #[error("--user {0}: this takes CAP_SETUID and CAP_SETGID, which are missing; add them, or leave --user away")]
    NoRight(String),
}

/// Who is going to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    uid: u32,
    gid: u32,
    /// As people know it.
    name: String,
    /// It is another than that of the start.
    changes: bool,
    remark: Option<&'static str>,
}

impl Account {
    /// The account that was asked for as `NAME`, `UID`, `NAME:GROUP` or `UID:GID`; without, the default for root, and
    /// everybody else stays who they are.
    ///
    /// # Errors
    /// When there is no such account, or it cannot be had.
    pub fn find(asked: Option<&str>) -> Result<Self, AccountError> {
        let (uid, gid) = (Uid::effective(), Gid::effective());
        let asked = asked.filter(|asked| !asked.is_empty());
        let wanted = match asked {
            Some(asked) => parse(asked)?,
            None if uid.is_root() => default_account(),
            None => return Ok(Self::same(uid, gid, None)),
        };
        if (wanted.uid, wanted.gid) == (uid.as_raw(), gid.as_raw()) {
            return Ok(Self { changes: uid.is_root(), ..wanted });
        }
        match asked {
            Some(asked) if !uid.is_root() => Err(AccountError::NotRoot(asked.to_owned())),
            Some(asked) if !capability::may_change_user() => Err(AccountError::NoRight(asked.to_owned())),
            None if !capability::may_change_user() => Ok(Self::same(
                uid,
                gid,
                Some("the user is still root, without a capability: becoming another takes CAP_SETUID and CAP_SETGID"),
            )),
            _ => Ok(wanted),
        }
    }

    /// The account of this process, for good.
    #[must_use]
    pub fn current() -> Self {
        Self::same(Uid::effective(), Gid::effective(), None)
    }

    fn same(uid: Uid, gid: Gid, remark: Option<&'static str>) -> Self {
        Self { uid: uid.as_raw(), gid: gid.as_raw(), name: name_of(uid), changes: false, remark }
    }

    /// Its number.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// Its group's number.
    #[must_use]
    pub const fn gid(&self) -> u32 {
        self.gid
    }

    /// Its name, or its number in words.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is another than that of the start.
    #[must_use]
    pub const fn changes(&self) -> bool {
        self.changes
    }

    pub(super) const fn remark(&self) -> Option<&'static str> {
        self.remark
    }

    /// Becomes it in all threads: the C library sees to that.
    pub(super) fn assume(&self) -> Result<(), PrivilegeError> {
        if !self.changes {
            return Ok(());
        }
        let refused = |action| move |error: nix::Error| PrivilegeError::Refused { action, source: error.into() };
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setgroups(&[]).map_err(refused("leave all groups"))?;
        setresgid(gid, gid, gid).map_err(refused("change the group"))?;
        setresuid(uid, uid, uid).map_err(refused("change the user"))
    }
}

fn name_of(uid: Uid) -> String {
    let account = User::from_uid(uid).ok().flatten();
    account.map_or_else(|| format!("user {uid}"), |account| account.name)
}

fn default_account() -> Account {
    let found = DEFAULTS.iter().find_map(|name| User::from_name(name).ok().flatten());
    let (uid, gid, name) = found.map_or_else(
        || (NOBODY, NOBODY, "nobody".to_owned()),
        |account| (account.uid.as_raw(), account.gid.as_raw(), account.name),
    );
    Account { uid, gid, name, changes: true, remark: None }
}

fn parse(text: &str) -> Result<Account, AccountError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let account = match user.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)).ok().flatten(),
        Err(_) => {
            let found = User::from_name(user).ok().flatten();
            Some(found.ok_or_else(|| AccountError::Unknown(user.to_owned()))?)
        }
    };
    let gid = match group {
        Some(group) => match group.parse() {
            Ok(gid) => Some(gid),
            Err(_) => {
                let found = Group::from_name(group).ok().flatten();
                Some(found.ok_or_else(|| AccountError::UnknownGroup(group.to_owned()))?.gid.as_raw())
            }
        },
        None => account.as_ref().map(|account| account.gid.as_raw()),
    };
    let uid = match &account {
        Some(account) => account.uid.as_raw(),
        None => user.parse().map_err(|_| AccountError::Unknown(user.to_owned()))?,
    };
    let name = account.map_or_else(|| format!("user {uid}"), |account| account.name);
    // A number without an account has a group of the same number, as most systems give one.
    Ok(Account { uid, gid: gid.unwrap_or(uid), name, changes: true, remark: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_given_by_name_or_number_with_or_without_a_group() {
        let ids = |text: &str| parse(text).map(|account| (account.uid, account.gid)).unwrap();
        assert_eq!(ids("root"), (0, 0));
        assert_eq!(ids("0:77"), (0, 77));
        assert_eq!(ids("root:root"), (0, 0));
        assert_eq!(ids("4123456:5"), (4_123_456, 5));
        assert_eq!(ids("4123456"), (4_123_456, 4_123_456));
    }

    #[test]
    fn an_account_that_is_none_is_refused_with_what_to_do() {
        let error = parse("no-such-account").unwrap_err().to_string();
        assert!(error.contains("useradd --system no-such-account"), "{error}");
        let error = parse("0:no-such-group").unwrap_err().to_string();
        assert!(error.contains("groupadd"), "{error}");
        assert!(parse("-1").is_err() && parse("4294967296").is_err());
    }

    #[test]
    fn root_becomes_somebody_without_rights() {
        let account = default_account();
        assert!(account.uid != 0 && account.gid != 0 && account.changes, "{account:?}");
    }
}
