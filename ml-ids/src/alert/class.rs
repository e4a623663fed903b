//! What a class of the model means to a person: how grave it is, and which ATT&CK techniques it shows.
//!
//! A row holds for every class whose name begins with its prefix, whatever the case, because models name their classes
//! in families (`DoS Hulk`, `Web Attack - XSS`; see `models/default.md`). Of several rows the longest prefix wins.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How grave an alert is, numbered as in EVE: 1 is high, 2 medium, 3 low, 4 for information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Severity(u8);

impl Severity {
    /// Someone should look now.
    pub const HIGH: Self = Self(1);
    /// Someone should look today.
    pub const MEDIUM: Self = Self(2);
    /// Ordinary background of a network that others can reach.
    pub const LOW: Self = Self(3);
    /// For the record.
    pub const INFO: Self = Self(4);

    /// EVE's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The number in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "high",
            2 => "medium",
            3 => "low",
            _ => "info",
        }
    }
}

/// A severity, or a rule with one, that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeverityError {
    /// Not a severity.
    #[error("`{0}` is no severity; use 1 (high), 2 (medium), 3 (low) or 4 (info)")]
    Unknown(String),
    /// Not a rule.
    #[error("`{0}` is no rule; write a class, or how its name begins, and its severity: 'DoS=3'")]
    Rule(String),
}

impl TryFrom<u8> for Severity {
    type Error = SeverityError;

    fn try_from(number: u8) -> Result<Self, SeverityError> {
        if (1..=4).contains(&number) { Ok(Self(number)) } else { Err(SeverityError::Unknown(number.to_string())) }
    }
}

impl From<Severity> for u8 {
    fn from(severity: Severity) -> Self {
        severity.0
    }
}

impl FromStr for Severity {
    type Err = SeverityError;

    fn from_str(text: &str) -> Result<Self, SeverityError> {
        let named = [Self::HIGH, Self::MEDIUM, Self::LOW, Self::INFO]
            .into_iter()
            .find(|severity| text.eq_ignore_ascii_case(severity.name()) || text == severity.0.to_string());
        named.ok_or_else(|| SeverityError::Unknown(text.to_owned()))
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A technique of MITRE ATT&CK for enterprises, with the tactic that it serves here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Technique {
    /// `T1046`, or `T1110.001` for a sub-technique.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// `TA0007`.
    pub tactic_id: &'static str,
    /// The tactic's name.
    pub tactic: &'static str,
}

/// One row of the table.
#[derive(Debug)]
pub struct ClassRow {
    /// How the names of these classes begin.
    pub prefix: &'static str,
    /// How grave they are.
    pub severity: Severity,
    /// What they show, the best fit first.
    pub techniques: &'static [Technique],
}

const SCANNING: Technique =
    Technique { id: "T1595", name: "Active Scanning", tactic_id: "TA0043", tactic: "Reconnaissance" };
const DISCOVERY: Technique =
    Technique { id: "T1046", name: "Network Service Discovery", tactic_id: "TA0007", tactic: "Discovery" };
const GUESSING: Technique =
    Technique { id: "T1110.001", name: "Password Guessing", tactic_id: "TA0006", tactic: "Credential Access" };
const BRUTE_FORCE: Technique =
    Technique { id: "T1110", name: "Brute Force", tactic_id: "TA0006", tactic: "Credential Access" };
const PUBLIC_APPLICATION: Technique =
    Technique { id: "T1190", name: "Exploit Public-Facing Application", tactic_id: "TA0001", tactic: "Initial Access" };
const ENDPOINT_FLOOD: Technique =
    Technique { id: "T1499", name: "Endpoint Denial of Service", tactic_id: "TA0040", tactic: "Impact" };
const SERVICE_FLOOD: Technique =
    Technique { id: "T1499.002", name: "Service Exhaustion Flood", tactic_id: "TA0040", tactic: "Impact" };
const NETWORK_FLOOD: Technique =
    Technique { id: "T1498", name: "Network Denial of Service", tactic_id: "TA0040", tactic: "Impact" };
const CONTROL_CHANNEL: Technique =
    Technique { id: "T1071", name: "Application Layer Protocol", tactic_id: "TA0011", tactic: "Command and Control" };
const USER_EXECUTION: Technique =
    Technique { id: "T1204", name: "User Execution", tactic_id: "TA0002", tactic: "Execution" };

/// The table. What no row names is [`UNKNOWN_SEVERITY`] and shows no technique.
pub const CLASSES: [ClassRow; 13] = [
    row("Heartbleed", Severity::HIGH, &[PUBLIC_APPLICATION]),
    row("Infiltration", Severity::HIGH, &[USER_EXECUTION]),
    // Grave only from inside, which the model cannot tell: it is not fed addresses.
    row("Infiltration - Portscan", Severity::MEDIUM, &[DISCOVERY]),
    row("Bot", Severity::HIGH, &[CONTROL_CHANNEL]),
    row("Web Attack - SQL", Severity::HIGH, &[PUBLIC_APPLICATION]),
    row("Web Attack", Severity::MEDIUM, &[PUBLIC_APPLICATION]),
    row("Web Attack - Brute Force", Severity::MEDIUM, &[BRUTE_FORCE]),
    row("FTP-", Severity::MEDIUM, &[GUESSING]),
    row("SSH-", Severity::MEDIUM, &[GUESSING]),
    row("DDoS", Severity::MEDIUM, &[NETWORK_FLOOD]),
    row("DoS", Severity::MEDIUM, &[ENDPOINT_FLOOD, SERVICE_FLOOD]),
    row("Portscan", Severity::LOW, &[DISCOVERY, SCANNING]),
    row("Port scan", Severity::LOW, &[DISCOVERY, SCANNING]),
];

/// Of classes that no row names: worth a look, as nobody has said otherwise.
pub const UNKNOWN_SEVERITY: Severity = Severity::MEDIUM;

const fn row(prefix: &'static str, severity: Severity, techniques: &'static [Technique]) -> ClassRow {
    ClassRow { prefix, severity, techniques }
}

/// What a class shows; empty for classes that the table does not know.
#[must_use]
pub fn techniques(label: &str) -> &'static [Technique] {
    longest(CLASSES.iter(), |row| row.prefix, label).map_or(&[], |row| row.techniques)
}

/// The operator's word on a family of classes: `CLASS=1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeverityRule {
    prefix: String,
    severity: Severity,
}

impl FromStr for SeverityRule {
    type Err = SeverityError;

    fn from_str(text: &str) -> Result<Self, SeverityError> {
        let (prefix, severity) = text.rsplit_once('=').ok_or_else(|| SeverityError::Rule(text.to_owned()))?;
        let prefix = prefix.trim();
        if prefix.is_empty() {
            return Err(SeverityError::Rule(text.to_owned()));
        }
        Ok(Self { prefix: prefix.to_owned(), severity: severity.trim().parse()? })
    }
}

/// The table with what the operator has changed in it.
#[derive(Clone, Debug, Default)]
pub struct Severities(Vec<SeverityRule>);

impl Severities {
    /// The operator's rules go before the table.
    #[must_use]
    pub const fn new(rules: Vec<SeverityRule>) -> Self {
        Self(rules)
    }

    /// How grave a class is.
    #[must_use]
    pub fn of(&self, label: &str) -> Severity {
        let told = longest(self.0.iter(), |rule| &rule.prefix, label).map(|rule| rule.severity);
        told.or_else(|| longest(CLASSES.iter(), |row| row.prefix, label).map(|row| row.severity))
            .unwrap_or(UNKNOWN_SEVERITY)
    }
}

/// The row with the longest prefix of `label`.
fn longest<'a, R>(rows: impl Iterator<Item = &'a R>, prefix: impl Fn(&R) -> &str, label: &str) -> Option<&'a R> {
    let fits = |row: &&R| {
        let prefix = prefix(row).as_bytes();
        label.as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    rows.filter(fits).max_by_key(|row| prefix(row).len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BENIGN, Model};

    #[test]
    fn every_attack_of_the_embedded_model_has_a_row_of_its_own_meaning() {
        let model = Model::embedded().unwrap();
        for label in model.contract().classes.iter().filter(|label| *label != BENIGN) {
            assert!(!techniques(label).is_empty(), "{label}");
        }
        let severities = Severities::default();
        let found = ["Heartbleed", "DoS Hulk", "DDoS", "Portscan", "Something new"].map(|label| severities.of(label));
        assert_eq!(found, [Severity::HIGH, Severity::MEDIUM, Severity::MEDIUM, Severity::LOW, UNKNOWN_SEVERITY]);
    }

    #[test]
    fn the_longest_prefix_wins_and_case_does_not_matter() {
        assert_eq!(techniques("Infiltration - Portscan")[0].id, "T1046");
        assert_eq!(techniques("infiltration")[0].id, "T1204");
        assert_eq!(techniques("Web Attack - XSS")[0].id, "T1190");
        assert_eq!(techniques("Web Attack - Brute Force")[0].id, "T1110");
        assert!(techniques("Web").is_empty());
    }

    #[test]
    fn the_operators_rules_go_before_the_table() {
        let rules = ["Web Attack=4", "web attack - sql=high", "Heart=3"].map(|text| text.parse().unwrap());
        let severities = Severities::new(rules.to_vec());
        let found = ["Web Attack - XSS", "Web Attack - SQL Injection", "Heartbleed", "Botnet"];
        let expected = [Severity::INFO, Severity::HIGH, Severity::LOW, Severity::HIGH];
        assert_eq!(found.map(|label| severities.of(label)), expected);
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_with_what_to_write() {
        for (text, part) in [("DoS", "'DoS=3'"), ("=1", "'DoS=3'"), ("DoS=5", "1 (high)"), ("DoS=", "1 (high)")] {
            let error = text.parse::<SeverityRule>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
