//! Which interfaces are watched: names, and patterns that stand for all interfaces that match them, now or later.

use std::{fmt, str::FromStr};

use super::links::LinkInfo;

/// Longest name of an interface (`IFNAMSIZ` less the end of the string) or alternative name (`ALTIFNAMSIZ`).
const LONGEST: usize = 127;

/// A name, `eth0`, or a pattern with `*` (any characters, or none) and `?` (any one), `veth*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePattern(String);

/// Why a text is no name of an interface.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// Nothing between two commas, for example.
    #[error("the name of an interface is missing")]
    Empty,
    /// No interface can have it.
    #[error("{0:?} cannot be the name of an interface: a slash, a blank, or too long")]
    Impossible(String),
}

impl FromStr for InterfacePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > LONGEST || text.contains(|letter: char| letter == '/' || letter.is_whitespace()) {
            return Err(PatternError::Impossible(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl InterfacePattern {
    /// Whether it names one interface, which is then missed when it is not there.
    #[must_use]
    pub fn is_name(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Whether an interface is meant, by its name or an alternative one.
    pub(super) fn matches(&self, link: &LinkInfo) -> bool {
        let names = std::iter::once(&link.name).chain(&link.alternatives);
        names.into_iter().any(|name| matches(self.0.as_bytes(), name.as_bytes()))
    }
}

/// Matches byte by byte; at a mismatch it goes back to the last `*` and lets that one take a byte more.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    let mut last_star = None;
    while let Some(byte) = name.get(here) {
        match pattern.get(at) {
            Some(b'*') => {
                last_star = Some((at, here));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at += 1;
                here += 1;
            }
            _ => {
                let Some((star, taken)) = last_star else { return false };
                last_star = Some((star, taken + 1));
                at = star + 1;
                here = taken + 1;
            }
        }
    }
    pattern.get(at..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_does() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth0", "eth", false),
            ("veth*", "veth", true),
            ("veth*", "veth12ab", true),
            ("veth*", "eth0", false),
            ("*", "lo", true),
            ("*0", "eth0", true),
            ("*0", "eth00", true),
            ("*0", "eth01", false),
            ("e*h?", "enp3s0h1", true),
            ("e*h?", "eth", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXcYb", false),
            ("??", "lo", true),
            ("??", "lo0", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn an_alternative_name_is_as_good_as_the_first() {
        let link =
            LinkInfo { name: "enp3s0".to_owned(), alternatives: vec!["uplink".to_owned()], ..LinkInfo::default() };
        for (pattern, expected) in [("enp3s0", true), ("uplink", true), ("up*", true), ("down*", false)] {
            assert_eq!(pattern.parse::<InterfacePattern>().unwrap().matches(&link), expected, "{pattern}");
        }
    }

    #[test]
    fn what_no_interface_can_be_called_is_refused() {
        for text in ["", "a/b", "a b", &"x".repeat(128)] {
            assert!(text.parse::<InterfacePattern>().is_err(), "{text:?}");
        }
        assert!("eth0".parse::<InterfacePattern>().unwrap().is_name());
        assert!(!"eth?".parse::<InterfacePattern>().unwrap().is_name());
    }
}
