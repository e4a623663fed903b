//! EVE's `alert` object. Readers know a signature by its numbers, so a class has the same ones for good, whichever model
//! names it.

use serde_json::{Value, json};

use crate::alert::{RATE_LABEL, Severities};

/// Who made the alert. Numbers from a million on are free for generators other than the rule engines'.
const GENERATOR: u32 = 1_000_001;
/// Changes when what an alert of a class means does.
const REVISION: u32 = 1;

/// Signature numbers, from the range for local use, by the names of classes. Never change one; append.
const SIGNATURES: [(&str, u32); 16] = [
    ("Botnet", 1_000_001),
    ("DDoS", 1_000_002),
    ("DoS GoldenEye", 1_000_003),
    ("DoS Hulk", 1_000_004),
    ("DoS Slowhttptest", 1_000_005),
    ("DoS Slowloris", 1_000_006),
    ("FTP-Patator", 1_000_007),
    ("Heartbleed", 1_000_008),
    ("Infiltration", 1_000_009),
    ("Infiltration - Portscan", 1_000_010),
    ("Portscan", 1_000_011),
    ("SSH-Patator", 1_000_012),
    ("Web Attack - Brute Force", 1_000_013),
    ("Web Attack - SQL Injection", 1_000_014),
    ("Web Attack - XSS", 1_000_015),
    (RATE_LABEL, 1_000_016),
];
/// Classes that the table does not name have a number from here on, by their names.
const UNNAMED: u32 = 1_100_000;
const UNNAMED_COUNT: u32 = 800_000;

/// The object of a class, with all that Suricata's readers require. Without `severities` it is graded as the table of
/// classes has it.
#[must_use]
pub fn alert(label: &str, severities: Option<&Severities>) -> Value {
    let severity = severities.map_or_else(|| Severities::default().of(label), |severities| severities.of(label));
    json!({
        "action": "allowed",
        "gid": GENERATOR,
        "signature_id": signature_id(label),
        "rev": REVISION,
        "signature": format!("ML-IDS {label}"),
        "category": label,
        "severity": severity,
    })
}

/// The number of a class, whatever the case of its name.
fn signature_id(label: &str) -> u32 {
    let known = SIGNATURES.iter().find(|(name, _)| name.eq_ignore_ascii_case(label));
    known.map_or_else(|| UNNAMED + fnv1a(label) % UNNAMED_COUNT, |(_, number)| *number)
}

/// FNV-1a of the name in lower case: the same on every machine and in every version.
fn fnv1a(label: &str) -> u32 {
    label
        .bytes()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{BENIGN, Model};

    #[test]
    fn every_attack_of_the_embedded_model_has_a_number_of_its_own_in_the_table() {
        let model = Model::embedded().unwrap();
        let attacks: Vec<&String> = model.contract().classes.iter().filter(|label| *label != BENIGN).collect();
        let numbers: BTreeSet<u32> = attacks.iter().map(|label| signature_id(label)).collect();
        assert_eq!(numbers.len(), attacks.len());
        assert!(numbers.iter().all(|number| *number < UNNAMED), "{numbers:?}");
    }

    #[test]
    fn the_operators_grades_go_before_those_of_the_table() {
        let told = Severities::new(vec!["DDoS=4".parse().unwrap()]);
        assert_eq!(alert("DDoS", Some(&told))["severity"], 4);
        assert_eq!(alert("Heartbleed", Some(&told))["severity"], alert("Heartbleed", None)["severity"]);
        assert_ne!(alert("DDoS", None)["severity"], 4);
    }

    #[test]
    fn other_classes_keep_their_number_for_good_and_case_does_not_matter() {
        assert_eq!(signature_id("Something new"), 1_222_557);
        assert_eq!(signature_id("something NEW"), signature_id("Something new"));
        assert_eq!(signature_id("portscan"), 1_000_011);
        assert_ne!(signature_id("Something else"), signature_id("Something new"));
    }
}
