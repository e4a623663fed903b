//! Models in an MLflow registry: from a name to a version, from the version to the place of its files, and from there to
//! the ONNX file, through the server's artefact proxy or directly from S3.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};
use ureq::http::HeaderMap;

use super::{
    error::{Credentials, FetchError},
    http::{Get, Got, Http, Progress},
    mlmodel,
    s3::{PATH, S3Options},
};
use crate::model::source::{Auth, Pick, Registered, WebUrl};

/// Most bytes of an answer that is no model.
const ANSWER_BYTES: u64 = 1 << 20;
/// What is encoded in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the registry is, and who asks.
#[derive(Clone, Debug)]
pub struct MlflowOptions {
    /// The tracking server.
    pub server: WebUrl,
    /// Name and password, or a token.
    pub auth: Option<Auth>,
}

/// One version of a registered model.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Version {
    name: String,
    version: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    status_message: Option<String>,
    #[serde(default)]
    current_stage: Option<String>,
    #[serde(default)]
    creation_timestamp: serde_json::Value,
    #[serde(default)]
    source: Option<String>,
}

#[derive(Deserialize)]
struct OneVersion {
    model_version: Version,
}

#[derive(Deserialize)]
struct RegisteredModel {
    registered_model: Versions,
}

#[derive(Deserialize)]
struct Versions {
    /// The newest of each stage; of equal stages, the one that was made last.
    #[serde(default)]
    latest_versions: Vec<Version>,
}

#[derive(Deserialize)]
struct DownloadUri {
    artifact_uri: String,
}

/// A folder of a version's files.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Folder {
    /// Behind the tracking server.
    Proxied(String),
    /// In S3.
    S3 { bucket: String, prefix: String },
    /// Anywhere on the web.
    Web(WebUrl),
}

impl Version {
    /// A number may be given again after a version was deleted, so it alone does not tell a version from another.
    pub(super) fn mark(&self) -> String {
        let Self { version, creation_timestamp, source, .. } = self;
        format!("version {version} {} {}", creation_timestamp, source.as_deref().unwrap_or_default())
    }

    /// The version by its number.
    pub(super) fn resolved(&self) -> String {
        format!("mlflow:{}/{}", self.name, self.version)
    }

    fn number(&self) -> u64 {
        self.version.parse().unwrap_or(0)
    }

    fn refuse(&self, reason: impl Into<String>) -> FetchError {
        FetchError::Version { name: self.name.clone(), version: self.version.clone(), reason: reason.into() }
    }
}

impl MlflowOptions {
    /// The version that the source means now.
    pub(super) fn resolve(&self, http: &Http, wanted: &Registered) -> Result<Version, FetchError> {
        let Registered { name, pick } = wanted;
        let encoded = utf8_percent_encode(name, QUERY);
        let one = |query: String| {
            let found: OneVersion = self.ask(http, &format!("api/2.0/mlflow/{query}"))?;
            Ok::<_, FetchError>(found.model_version)
        };
        let version = match pick {
            Pick::Alias(alias) => {
                let alias = utf8_percent_encode(alias, QUERY);
                one(format!("registered-models/alias?name={encoded}&alias={alias}"))?
            }
            Pick::Version(version) => one(format!("model-versions/get?name={encoded}&version={version}"))?,
            Pick::Latest | Pick::Stage(_) => {
                let path = format!("api/2.0/mlflow/registered-models/get?name={encoded}");
                let found: RegisteredModel = self.ask(http, &path)?;
                newest(wanted, found.registered_model.latest_versions)?
            }
        };
        match version.status.as_deref() {
            None | Some("READY") => Ok(version),
            Some(status) => {
                let message = version.status_message.as_deref().unwrap_or_default();
                Err(version.refuse(format!("is not ready: {status} {message}").trim_end()))
            }
        }
    }

    /// The version's ONNX file.
    pub(super) fn model(
        &self,
        http: &Http,
        s3: &S3Options,
        version: &Version,
        max_bytes: u64,
        progress: Progress<'_>,
    ) -> Result<Vec<u8>, FetchError> {
        let query = format!(
            "api/2.0/mlflow/model-versions/get-download-uri?name={}&version={}",
            utf8_percent_encode(&version.name, QUERY),
            utf8_percent_encode(&version.version, QUERY)
        );
        let DownloadUri { artifact_uri } = self.ask(http, &query)?;
        let folder = self.folder(version, &artifact_uri)?;
        let read =
            |file: &str, max_bytes, progress: Progress<'_>| self.read(http, s3, &folder, file, max_bytes, progress);
        let card = read("MLmodel", ANSWER_BYTES, &|_, _| {})?;
        let card = String::from_utf8(card).map_err(|_| version.refuse("has an MLmodel file that is no text"))?;
        let file = mlmodel::onnx_file(&card).map_err(|reason| version.refuse(reason))?;
        read(&file, max_bytes, progress)
    }

    fn folder(&self, version: &Version, uri: &str) -> Result<Folder, FetchError> {
        let Some((scheme, rest)) = uri.split_once(':') else {
            return Err(version.refuse(OWN_FILES));
        };
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", rest.trim_start_matches('/')),
        };
        let path = path.trim_end_matches('/');
        match scheme {
            "mlflow-artifacts" => {
                let own = self.server.uri().authority().map(|authority| authority.as_str());
                if !host.is_empty() && Some(host) != own {
                    let reason = format!("lies behind another server, {host}; name that one as the tracking server");
                    return Err(version.refuse(reason));
                }
                Ok(Folder::Proxied(path.to_owned()))
            }
            "s3" if !host.is_empty() => Ok(Folder::S3 { bucket: host.to_owned(), prefix: path.to_owned() }),
            "http" | "https" => Ok(Folder::Web(uri.parse()?)),
            "file" => Err(version.refuse(OWN_FILES)),
            _ => Err(version.refuse(format!(
                "lies at {scheme}:, which is not read directly; let the MLflow server hand artefacts out \
                 (--serve-artifacts), or fetch the file by other means"
            ))),
        }
    }

    fn read(
        &self,
        http: &Http,
        s3: &S3Options,
        folder: &Folder,
        file: &str,
        max_bytes: u64,
        progress: Progress<'_>,
    ) -> Result<Vec<u8>, FetchError> {
        let got = match folder {
            Folder::Proxied(path) => {
                let path = format!("{path}/{file}");
                let path = utf8_percent_encode(path.trim_start_matches('/'), PATH);
                let url = self.server.join(&format!("api/2.0/mlflow-artifacts/artifacts/{path}"))?;
                http.get(&self.request(url, max_bytes), progress)?
            }
            Folder::S3 { bucket, prefix } => {
                let key = format!("{prefix}/{file}");
                s3.get(http, (bucket, key.trim_start_matches('/')), None, max_bytes, progress)?
            }
            Folder::Web(url) => {
                let url = url.join(&utf8_percent_encode(file, PATH).to_string())?;
                http.get(&self.request(url, max_bytes), progress)?
            }
        };
        match got {
            Got::Body { bytes, .. } => Ok(bytes),
            Got::Unchanged => Err(FetchError::garbled(&self.server, "`unchanged` to a first request")),
        }
    }

    /// A request that says who asks, if it goes to the tracking server itself.
    fn request(&self, url: WebUrl, max_bytes: u64) -> Get<'_> {
        let auth = if url.same_origin(&self.server) { self.auth.as_ref().or(self.server.auth()) } else { None };
        Get { url, auth, headers: HeaderMap::new(), signed: Credentials::None, known: None, max_bytes }
    }

    fn ask<T: DeserializeOwned>(&self, http: &Http, path: &str) -> Result<T, FetchError> {
        let url = self.server.join(path)?;
        match http.get(&self.request(url.clone(), ANSWER_BYTES), &|_, _| {})? {
            Got::Body { bytes, .. } => serde_json::from_slice(&bytes)
                .map_err(|error| FetchError::garbled(&url, format!("{error}; is it an MLflow server?"))),
            Got::Unchanged => Err(FetchError::garbled(&url, "`unchanged` to a first request")),
        }
    }
}

const OWN_FILES: &str = "lies in the MLflow server's own file system; start that server with --serve-artifacts and \
                         --artifacts-destination, and register the model anew";

/// The newest version that the source means.
fn newest(wanted: &Registered, versions: Vec<Version>) -> Result<Version, FetchError> {
    let stage_of = |version: &Version| version.current_stage.clone().unwrap_or_else(|| "None".to_owned());
    let found: Vec<String> =
        versions.iter().map(|version| format!("{} ({})", version.version, stage_of(version))).collect();
    let fits = |version: &Version| match &wanted.pick {
        Pick::Stage(stage) => stage_of(version).eq_ignore_ascii_case(stage),
        _ => true,
    };
    versions.into_iter().filter(fits).max_by_key(Version::number).ok_or_else(|| FetchError::NoVersion {
        name: wanted.name.clone(),
        wanted: match &wanted.pick {
            Pick::Stage(stage) => format!("in stage {stage}"),
            _ => "at all".to_owned(),
        },
        found: if found.is_empty() { "none".to_owned() } else { found.join(", ") },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mlflow() -> MlflowOptions {
        MlflowOptions { server: "http://127.0.0.1:5000/mlflow".parse().unwrap(), auth: None }
    }

    fn version(number: &str, stage: &str) -> Version {
        Version {
            name: "ids".to_owned(),
            version: number.to_owned(),
            status: None,
            status_message: None,
            current_stage: Some(stage.to_owned()),
            creation_timestamp: 7.into(),
            source: None,
        }
    }

    fn wanted(pick: Pick) -> Registered {
        Registered { name: "ids".to_owned(), pick }
    }

    #[test]
    fn the_newest_version_is_the_greatest_number_of_its_stage() {
        let versions = || vec![version("9", "Production"), version("10", "None"), version("2", "Staging")];
        let number = |pick| newest(&wanted(pick), versions()).map(|version| version.version);
        assert_eq!(number(Pick::Latest).unwrap(), "10");
        assert_eq!(number(Pick::Stage("production".to_owned())).unwrap(), "9");
        let error = number(Pick::Stage("Archived".to_owned())).unwrap_err().to_string();
        assert_eq!(
            error,
            "model `ids` has no version in stage Archived; the registry has 9 (Production), 10 (None), 2 (Staging)"
        );
    }

    #[test]
    fn a_versions_files_lie_where_the_server_says() {
        let folder = |uri: &str| mlflow().folder(&version("1", "None"), uri);
        let proxied = |path: &str| Folder::Proxied(path.to_owned());
        assert_eq!(folder("mlflow-artifacts:/1/models/m-2/artifacts").unwrap(), proxied("1/models/m-2/artifacts"));
        assert_eq!(folder("mlflow-artifacts://127.0.0.1:5000/1/a/").unwrap(), proxied("1/a"));
        let expected = Folder::S3 { bucket: "b".to_owned(), prefix: "1/a".to_owned() };
        assert_eq!(folder("s3://b/1/a").unwrap(), expected);
        assert!(matches!(folder("https://host/a").unwrap(), Folder::Web(_)));
    }

    #[test]
    fn places_that_cannot_be_read_are_refused_with_what_to_do() {
        let refused = |uri: &str| mlflow().folder(&version("1", "None"), uri).unwrap_err().to_string();
        for uri in ["/srv/mlruns/1/a", "file:///srv/mlruns/1/a"] {
            assert!(refused(uri).contains("--serve-artifacts"), "{}", refused(uri));
        }
        assert!(refused("gs://bucket/a").contains("gs:"), "{}", refused("gs://bucket/a"));
        assert!(refused("mlflow-artifacts://other:1/a").contains("other:1"));
    }
}
