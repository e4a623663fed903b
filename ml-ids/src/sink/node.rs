//! This sensor's name among others.

use std::{env, fs};

/// `NODE_NAME`, as a Kubernetes manifest sets it, else the host's name.
#[must_use]
pub fn node_name() -> String {
    let named = env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let host = || fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    named.or_else(host).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// The name with everything but ASCII letters, digits, `_` and `-` made `_`, so that it is one word anywhere, and no longer
/// than `most` bytes.
pub(super) fn one_word(name: &str, most: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    name.chars().map(plain).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_one_word_and_there_always_is_one() {
        assert_eq!(one_word("gate.example.org *>\n", 100), "gate_example_org____");
        assert_eq!(one_word("gäte", 3), "g_t");
        assert!(!node_name().is_empty());
    }
}
