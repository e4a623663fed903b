//! This sensor's name among others.

use std::{env, fs};

/// `NODE_NAME`, as a Kubernetes manifest sets it, else the host's name.
#[must_use]
pub fn node_name() -> String {
    let named = env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let host = || fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    named.or_else(host).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_always_is_a_name() {
        assert!(!node_name().is_empty());
    }
}
