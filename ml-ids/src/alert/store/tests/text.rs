//! Searching by text: the file finds what memory finds, whatever stands in labels and in what is searched for.

use super::*;

/// Alerts whose labels, addresses and ports try to be taken for something else.
fn odd_alerts() -> Vec<Arc<Alert>> {
    let labels = ["DoS Hulk", "Portscan", "100%_sure\\", "Ünüsual", "it's \"quoted\"", "10.0"];
    let ends: [(&str, &str, u16); 6] = [
        ("10.0.0.1", "192.0.2.1", 80),
        ("2001:DB8::a", "192.0.2.10", 8080),
        ("10.0.0.10", "::1", 443),
        ("198.51.100.7", "10.1.1.1", 22),
        ("203.0.113.9", "203.0.113.10", 0),
        ("fe80::1", "fe80::2", 65_535),
    ];
    let begin = now_us();
    let (mut alerts, mut changes) = (Alerts::new(AlertSettings { rate: 0, ..AlertSettings::default() }), Vec::new());
    for (label, (source, target, port)) in labels.into_iter().zip(ends) {
        let (source, target) = (source.parse().unwrap(), target.parse().unwrap());
        let sighting = Sighting { source, target, port, ..sighting(label, 1, begin) };
        alerts.observe(&sighting, begin, || json!({ "note": "Portscan 10.0.0.1 80" }), &mut changes);
    }
    changes.into_iter().map(|change| change.alert).collect()
}

#[test]
fn the_file_finds_by_text_what_memory_finds() {
    let (place, alerts) = (Place::new(), odd_alerts());
    let store = place.store();
    alerts.iter().for_each(|alert| store.keep(alert));
    store.finish();
    let archive = Archive::open(&place.path).unwrap();
    let mut hits = 0;
    for text in [
        "dos",
        "HULK",
        "10.0",
        "10.0.0.1",
        "0.1",
        "2001:db8",
        "DB8::A",
        "::",
        "80",
        "808",
        "443",
        "0",
        "65535",
        "t1046",
        "reconnaissance",
        "impact",
        "%",
        "_",
        "\\",
        "'",
        "\"",
        "'; DROP TABLE alerts; --",
        "ünüsual",
        "Ünüsual",
        "ÜNÜSUAL",
        "note",
        "[",
        ",",
        "sample",
        "count",
        "*",
        "?",
        "a",
        "e",
    ] {
        let filter = Filter { text: AlertText::new(text).unwrap(), limit: 100, ..Filter::default() };
        let in_file: Vec<u64> = archive.list(&filter).unwrap().iter().map(|stored| stored.alert.id).collect();
        let in_memory = alerts.iter().rev().filter(|alert| filter.passes(alert)).map(|alert| alert.id);
        let in_memory: Vec<u64> = in_memory.collect();
        assert_eq!(in_file, in_memory, "{text}");
        hits += in_file.len();
    }
    assert!(hits > 30, "{hits}");
    let one = |text: &str| {
        let filter = Filter { text: AlertText::new(text).unwrap(), limit: 100, ..Filter::default() };
        archive.list(&filter).unwrap().into_iter().map(|stored| stored.alert.label).collect::<Vec<_>>()
    };
    assert_eq!(one("%"), ["100%_sure\\"]);
    assert_eq!(one("db8::a"), ["Portscan"]);
    assert_eq!(one("443"), ["100%_sure\\"]);
    assert_eq!(one("sample"), <[&str; 0]>::default());
}
