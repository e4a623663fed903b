//! What somebody types to find alerts: a piece of text, looked for in everything that a person knows an alert by.

use super::{class::techniques, record::Alert};
use crate::sink::eve;

/// Longest text, in characters.
pub const LONGEST_TEXT: usize = 100;

/// A text that nothing is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Longer than anything that it could be in.
    #[error("use at most {LONGEST_TEXT} characters")]
    Long,
    /// Line breaks and the like.
    #[error("use no control characters")]
    Control,
}

/// A text to look for, in any case (of ASCII letters).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertText(String);

impl AlertText {
    /// The text without blanks around it; `None` if nothing is left.
    ///
    /// # Errors
    /// When it is too long or has control characters.
    pub fn new(text: &str) -> Result<Option<Self>, TextError> {
        let text = text.trim_matches(' ');
        if text.chars().count() > LONGEST_TEXT {
            return Err(TextError::Long);
        }
        if text.contains(char::is_control) {
            return Err(TextError::Control);
        }
        Ok((!text.is_empty()).then(|| Self(text.to_ascii_lowercase())))
    }

    /// What is looked for, in lower case.
    pub(super) fn needle(&self) -> &str {
        &self.0
    }

    /// Whether the class's signature in events, or a technique that it shows, holds the text.
    pub(super) fn is_in_class(&self, label: &str) -> bool {
        let told = eve::alert(label, None);
        // The class's name is the end of it.
        let signature = told.get("signature").and_then(|signature| signature.as_str()).unwrap_or(label);
        let of_techniques = techniques(label)
            .iter()
            .flat_map(|technique| [technique.id, technique.name, technique.tactic_id, technique.tactic]);
        of_techniques.chain([signature]).any(|word| self.is_part_of(word))
    }

    /// Whether the alert is about a class, an address or a port that holds the text. Of addresses and ports those are known
    /// that are named. The store's query says the same.
    pub(super) fn is_in(&self, alert: &Alert) -> bool {
        let addresses = || alert.sources.sample.iter().chain(&alert.targets.sample);
        self.is_in_class(&alert.label)
            || addresses().any(|address| self.is_part_of(&address.to_string()))
            || alert.ports.sample.iter().any(|port| self.is_part_of(&port.to_string()))
    }

    fn is_part_of(&self, word: &str) -> bool {
        word.to_ascii_lowercase().contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_around_are_no_text_and_what_cannot_be_in_an_alert_is_refused() {
        assert_eq!(AlertText::new("  "), Ok(None));
        assert_eq!(AlertText::new(" T10 46 ").unwrap().unwrap().needle(), "t10 46");
        assert_eq!(AlertText::new(&"ä".repeat(LONGEST_TEXT + 1)), Err(TextError::Long));
        assert!(AlertText::new(&"ä".repeat(LONGEST_TEXT)).is_ok());
        assert_eq!(AlertText::new("a\0b"), Err(TextError::Control));
    }

    #[test]
    fn a_class_is_found_by_its_name_and_by_what_it_shows() {
        let finds = |text: &str, label: &str| AlertText::new(text).unwrap().unwrap().is_in_class(label);
        for text in ["portscan", "CAN", "t1046", "active scanning", "reconnaissance", "TA0043"] {
            assert!(finds(text, "Portscan"), "{text}");
            assert!(!finds(text, "Bot"), "{text}");
        }
        assert!(!finds("%", "Portscan") && !finds("_ortscan", "Portscan"));
    }
}
