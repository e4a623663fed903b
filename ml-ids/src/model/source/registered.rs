//! Names of models in an MLflow registry: `mlflow:NAME@ALIAS`, `models:/NAME/STAGE`, and what else people write.

use std::fmt;

use super::SourceError;

/// Prefixes of a registered model, the old spelling last.
const PREFIXES: [&str; 2] = ["mlflow:", "models:/"];

/// A model in a registry, and which of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The model's name.
    pub name: String,
    /// Which version.
    pub pick: Pick,
}

/// How a version is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The newest.
    Latest,
    /// The one of this number.
    Version(u64),
    /// The one that carries this alias.
    Alias(String),
    /// The newest of this stage, the way before aliases.
    Stage(String),
}

impl Registered {
    /// Reads a source. `None` if it does not speak of a registry.
    pub(super) fn parse(text: &str) -> Option<Result<Self, SourceError>> {
        let rest = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix))?;
        Some(Self::parse_name(rest).ok_or_else(|| SourceError::Registered(text.to_owned())))
    }

    /// Reads `NAME`, `NAME@ALIAS`, `NAME/VERSION` or `NAME/STAGE`.
    fn parse_name(text: &str) -> Option<Self> {
        let (name, pick) = match text.split_once(['@', '/']) {
            None => (text, Pick::Latest),
            Some((_, "")) => return None,
            Some((name, alias)) if text.as_bytes().get(name.len()) == Some(&b'@') => {
                (name, Pick::Alias(alias.to_owned()))
            }
            Some((name, "latest")) => (name, Pick::Latest),
            Some((name, rest)) if rest.bytes().all(|byte| byte.is_ascii_digit()) => {
                (name, Pick::Version(rest.parse().ok()?))
            }
            Some((name, stage)) => (name, Pick::Stage(stage.to_owned())),
        };
        let picked = match &pick {
            Pick::Alias(name) | Pick::Stage(name) => name.as_str(),
            Pick::Latest | Pick::Version(_) => "",
        };
        let odd = |text: &str| text.contains(['@', '/', ':']) || text.chars().any(char::is_control);
        (!name.is_empty() && !odd(name) && !odd(picked)).then(|| Self { name: name.to_owned(), pick })
    }
}

impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, pick } = self;
        match pick {
            Pick::Latest => write!(f, "mlflow:{name}"),
            Pick::Version(version) => write!(f, "mlflow:{name}/{version}"),
            Pick::Alias(alias) => write!(f, "mlflow:{name}@{alias}"),
            Pick::Stage(stage) => write!(f, "mlflow:{name}/{stage}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Registered> {
        Registered::parse(text).unwrap().ok()
    }

    #[test]
    fn both_spellings_name_aliases_versions_stages_and_the_newest() {
        let named = |pick| Some(Registered { name: "ids".to_owned(), pick });
        for prefix in PREFIXES {
            let parse = |rest: &str| parse(&format!("{prefix}{rest}"));
            assert_eq!(parse("ids"), named(Pick::Latest));
            assert_eq!(parse("ids/latest"), named(Pick::Latest));
            assert_eq!(parse("ids/3"), named(Pick::Version(3)));
            assert_eq!(parse("ids@prod"), named(Pick::Alias("prod".to_owned())));
            assert_eq!(parse("ids/Production"), named(Pick::Stage("Production".to_owned())));
        }
    }

    #[test]
    fn names_that_no_registry_has_are_refused_with_the_spellings() {
        for text in ["mlflow:", "mlflow:@prod", "mlflow:ids@", "mlflow:ids/", "models://ids/1", "mlflow:ids@a/b"] {
            let error = Registered::parse(text).unwrap().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("mlflow:NAME@ALIAS"), "{error}");
        }
        assert!(Registered::parse("mlflow:ids/99999999999999999999").unwrap().is_err());
        assert!(Registered::parse("s3://bucket/key").is_none());
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for text in ["mlflow:ids", "mlflow:ids/3", "mlflow:ids@prod", "mlflow:ids/Staging"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("models:/ids/Staging").unwrap().to_string(), "mlflow:ids/Staging");
    }
}
