//! The software bill of materials: every crate of a release with version, licence, checksum and what it uses, in CycloneDX 1.5.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::dependencies::{Dependencies, Dependency};

/// The crate that the bill is of.
const SUBJECT: &str = "ml-ids";

/// Makes the bill. The time is that of the sources, so that the same sources make the same bill.
pub(super) fn bill(dependencies: &Dependencies, epoch: u64) -> anyhow::Result<Value> {
    let subject = dependencies.values().find(|one| one.name == SUBJECT).context("the agent is not in its own bill")?;
    let parts = dependencies.values().filter(|one| one.name != SUBJECT);
    let uses = dependencies.values().map(|one| {
        let used: Vec<String> = one.uses.iter().filter_map(|id| dependencies.get(id)).map(purl).collect();
        json!({"ref": purl(one), "dependsOn": used})
    });
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": timestamp(epoch), "component": component(subject, "application")},
        "components": parts.map(|one| component(one, "library")).collect::<Vec<_>>(),
        "dependencies": uses.collect::<Vec<_>>(),
    }))
}

fn component(one: &Dependency, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(one),
        "name": one.name,
        "version": one.version,
        "licenses": [{"expression": one.licence}],
        "purl": purl(one),
    });
    if let Some(description) = &one.description {
        component["description"] = json!(description);
    }
    if let Some(checksum) = &one.checksum {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    if let Some(link) = &one.repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": link}]);
    }
    component
}

/// The crate's name for machines: <https://github.com/package-url/purl-spec>.
fn purl(one: &Dependency) -> String {
    format!("pkg:cargo/{}@{}", one.name, one.version.replace('+', "%2B"))
}

/// RFC 3339 in UTC.
pub(super) fn timestamp(epoch: u64) -> String {
    let (year, month, day) = civil(epoch / 86_400);
    let (hour, minute, second) = (epoch / 3600 % 24, epoch / 60 % 60, epoch % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date that many days after 1970-01-01 (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
pub(super) const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependency(name: &str, uses: &[&str]) -> ((String, String), Dependency) {
        let id = |name: &str| (name.to_owned(), "1.0.0".to_owned());
        let dependency = Dependency {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: "MIT".to_owned(),
            description: None,
            repository: None,
            checksum: None,
            folder: "/nonexistent".into(),
            uses: uses.iter().copied().map(id).collect(),
        };
        (id(name), dependency)
    }

    #[test]
    fn the_agent_is_the_subject_and_what_it_uses_are_its_parts() {
        let bill = bill(&Dependencies::from([dependency("ml-ids", &["a"]), dependency("a", &[])]), 0).unwrap();
        assert_eq!(bill["metadata"]["component"]["name"], "ml-ids");
        assert_eq!(bill["components"].as_array().unwrap().len(), 1);
        let uses = bill["dependencies"].as_array().unwrap();
        let agent = uses.iter().find(|one| one["ref"] == "pkg:cargo/ml-ids@1.0.0").unwrap();
        assert_eq!(agent["dependsOn"], json!(["pkg:cargo/a@1.0.0"]));
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_795_778_092), "2026-11-27T11:14:52Z");
    }
}
