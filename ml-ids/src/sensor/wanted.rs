//! What is to be watched, held against the interfaces that there are.

use super::{
    attach::AttachMode,
    interface::{Interface, InterfaceError},
    links::LinkInfo,
    pattern::InterfacePattern,
};

/// What is to be watched.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Names and patterns.
    pub interfaces: Vec<InterfacePattern>,
    /// Directions.
    pub attach: AttachMode,
    /// A name that is not there yet is waited for.
    pub wait: bool,
}

impl Watch {
    /// Whether an interface is meant by its name.
    pub(super) fn names(&self, link: &LinkInfo) -> bool {
        self.interfaces.iter().any(|pattern| pattern.is_name() && pattern.matches(link))
    }

    pub(super) fn covers(&self, link: &LinkInfo) -> bool {
        self.interfaces.iter().any(|pattern| pattern.matches(link))
    }

    /// The interfaces that are meant and there.
    pub(super) fn present<'a>(&self, links: &'a [LinkInfo]) -> Vec<&'a LinkInfo> {
        links.iter().filter(|link| self.covers(link)).collect()
    }

    /// Requires what must be there from the start.
    pub(super) fn check(&self, links: &[LinkInfo]) -> Result<(), InterfaceError> {
        if !self.wait
            && let Some(name) = self.missing(links).first()
        {
            let mut names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
            names.sort_unstable();
            return Err(InterfaceError::NotFound { name: name.to_string(), available: names.join(", ") });
        }
        links.iter().filter(|link| self.names(link)).try_for_each(|link| Interface::of(link).map(drop))
    }

    /// The names of which no interface is there.
    pub(super) fn missing<'a>(&'a self, links: &[LinkInfo]) -> Vec<&'a InterfacePattern> {
        let absent = |pattern: &&InterfacePattern| !links.iter().any(|link| pattern.matches(link));
        self.interfaces.iter().filter(|pattern| pattern.is_name()).filter(absent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_must_be_there_and_readable_unless_it_is_waited_for() {
        let link = |name: &str, hardware| LinkInfo { name: name.to_owned(), index: 3, hardware, ..LinkInfo::default() };
        let links = [link("eth0", 1), link("ib0", 32)];
        for (interfaces, wait, expected) in [
            ("eth0", false, None),
            ("eth0,veth*", false, None),
            ("*", false, None),
            ("eth1", false, Some("no interface named eth1; there are: eth0, ib0")),
            ("eth1", true, None),
            ("ib0", true, Some("interface ib0 carries neither")),
        ] {
            let interfaces = interfaces.split(',').map(|text| text.parse().unwrap()).collect();
            let checked = Watch { interfaces, wait, ..Watch::default() }.check(&links);
            let message = checked.as_ref().err().map(ToString::to_string);
            match (expected, &message) {
                (None, None) => {}
                (Some(start), Some(message)) if message.starts_with(start) => {}
                _ => panic!("{expected:?} expected, {message:?} found"),
            }
        }
    }
}
