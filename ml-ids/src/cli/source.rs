//! Flags that say which model, and how to reach it. Each has a variable, and the flag wins.

use std::{env, path::PathBuf, sync::Arc};

use anyhow::{Result, bail};
use clap::builder::FalseyValueParser;

use crate::model::{
    Auth, AwsKey, Cache, DEFAULT_MAX_BYTES, Fetcher, KeeperOptions, LoadOptions, MlflowOptions, Patience,
    RemoteOptions, S3Options, Secret, Source, WebUrl,
};

/// Where installed sensors keep what they can fetch again.
const SYSTEM_CACHE: &str = "/var/cache/ml-ids";

/// Which model.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct ModelArgs {
    /// Model: embedded, a path to an .onnx file, mlflow:NAME@ALIAS, mlflow:NAME/VERSION, mlflow:NAME (the newest version),
    /// s3://BUCKET/KEY, or https://… [default: embedded]
    #[arg(long, env = "ML_IDS_MODEL", value_name = "SOURCE", help_heading = HEADING)]
    model: Option<Source>,
    /// Name of a registered model, as models:/NAME/STAGE, models:/NAME/VERSION or models:/NAME@ALIAS; used where --model
    /// and ML_IDS_MODEL name none
    #[arg(long, env = "MLFLOW_MODEL_NAME", value_name = "NAME", value_parser = registered, help_heading = HEADING)]
    mlflow_model_name: Option<Source>,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    access: AccessArgs,
}

const HEADING: &str = "Model";
const ACCESS: &str = "Access to models";

/// What is kept of models for the day on which their server is away.
#[derive(clap::Args, Clone, Debug, Default)]
struct CacheArgs {
    /// Where the last good model of each remote source is kept, for the day on which its server is away
    /// [default: $CACHE_DIRECTORY, /var/cache/ml-ids for root, ~/.cache/ml-ids/models for others]
    #[arg(long, env = "ML_IDS_MODEL_CACHE", value_name = "DIR", help_heading = HEADING)]
    model_cache: Option<PathBuf>,
    /// Keep no model on the disk, and use none from there
    #[arg(long, conflicts_with = "model_cache", help_heading = HEADING)]
    no_model_cache: bool,
}

/// How to reach a model, and what it must satisfy.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct AccessArgs {
    /// SHA-256 that the model must have, in hex
    #[arg(long, env = "ML_IDS_MODEL_SHA256", value_name = "HEX", value_parser = sha256, help_heading = HEADING)]
    pub(super) model_sha256: Option<String>,
    /// Largest model that is read [default: 256 MiB]
    #[arg(long, env = "ML_IDS_MODEL_MAX_BYTES", value_name = "BYTES", help_heading = HEADING)]
    model_max_bytes: Option<u64>,
    /// Fetch models over plain HTTP from other hosts, too
    #[arg(long, env = "ML_IDS_MODEL_INSECURE_HTTP", value_parser = FalseyValueParser::new(), help_heading = HEADING)]
    model_insecure_http: bool,
    /// MLflow server, for example https://mlflow.example.org
    #[arg(long, env = "MLFLOW_TRACKING_URI", value_name = "URL", hide_env_values = true, help_heading = ACCESS)]
    mlflow_tracking_uri: Option<WebUrl>,
    /// User of the MLflow server
    #[arg(long, env = "MLFLOW_TRACKING_USERNAME", value_name = "NAME", hide_env_values = true, help_heading = ACCESS)]
    mlflow_username: Option<String>,
    /// Its password; prefer the variable, as command lines can be read by others
    #[arg(long, env = "MLFLOW_TRACKING_PASSWORD", value_name = "PASSWORD", hide_env_values = true, help_heading = ACCESS)]
    mlflow_password: Option<Secret>,
    /// Token for the MLflow server, where there is no user
    #[arg(long, env = "MLFLOW_TRACKING_TOKEN", value_name = "TOKEN", hide_env_values = true, help_heading = ACCESS)]
    mlflow_token: Option<Secret>,
    /// S3 service other than Amazon's, for example https://minio.example.org:9000
    #[arg(long, env = "MLFLOW_S3_ENDPOINT_URL", value_name = "URL", hide_env_values = true, help_heading = ACCESS)]
    s3_endpoint: Option<WebUrl>,
    /// Region of S3 [default: us-east-1]
    #[arg(long, env = "AWS_REGION", value_name = "REGION", help_heading = ACCESS)]
    aws_region: Option<String>,
    /// Key to S3; without one requests are not signed
    #[arg(long, env = "AWS_ACCESS_KEY_ID", value_name = "ID", hide_env_values = true, help_heading = ACCESS)]
    aws_access_key_id: Option<String>,
    /// The key's private half
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", value_name = "KEY", hide_env_values = true, help_heading = ACCESS)]
    aws_secret_access_key: Option<Secret>,
    /// Token of a temporary key
    #[arg(long, env = "AWS_SESSION_TOKEN", value_name = "TOKEN", hide_env_values = true, help_heading = ACCESS)]
    aws_session_token: Option<Secret>,
}

impl ModelArgs {
    /// The model that was asked for.
    pub(super) fn source(&self) -> Source {
        self.model.clone().or_else(|| self.mlflow_model_name.clone()).unwrap_or_default()
    }

    /// Where models from elsewhere are kept, if they are.
    pub(super) fn cache_directory(&self) -> Option<PathBuf> {
        self.cache.directory()
    }

    /// What loads that model.
    pub(super) fn keeper_options(&self) -> Result<KeeperOptions> {
        self.keeper_options_of(self.source())
    }

    /// What loads another model by the same ways.
    pub(super) fn keeper_options_of(&self, source: Source) -> Result<KeeperOptions> {
        let Self { cache, access, .. } = self;
        let fetcher = Arc::new(access.fetcher()?);
        Ok(KeeperOptions { source, fetcher, load: access.load_options(), cache: cache.cache() })
    }
}

impl AccessArgs {
    /// What a model must satisfy.
    pub(super) fn load_options(&self) -> LoadOptions {
        LoadOptions { max_bytes: self.model_max_bytes.unwrap_or(DEFAULT_MAX_BYTES), sha256: self.model_sha256.clone() }
    }

    /// Reaches models, without the cache.
    pub(super) fn fetcher(&self) -> Result<Fetcher> {
        let auth = match (&self.mlflow_username, &self.mlflow_password, &self.mlflow_token) {
            (Some(user), Some(password), _) => Some(Auth::Basic { user: user.clone(), password: password.clone() }),
            (Some(_), None, None) => {
                bail!("MLFLOW_TRACKING_USERNAME is set without MLFLOW_TRACKING_PASSWORD; set both or neither")
            }
            (None, Some(_), None) => {
                bail!("MLFLOW_TRACKING_PASSWORD is set without MLFLOW_TRACKING_USERNAME; set both or neither")
            }
            (_, _, Some(token)) => Some(Auth::Bearer(token.clone())),
            (None, None, None) => None,
        };
        let key = match (&self.aws_access_key_id, &self.aws_secret_access_key) {
            (Some(id), Some(secret)) => {
                Some(AwsKey { id: id.clone(), secret: secret.clone(), session: self.aws_session_token.clone() })
            }
            (None, None) => None,
            (Some(_), None) => bail!("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY; set both or neither"),
            (None, Some(_)) => bail!("AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID; set both or neither"),
        };
        let mlflow = self.mlflow_tracking_uri.clone().map(|server| MlflowOptions { server, auth });
        let s3 = S3Options { endpoint: self.s3_endpoint.clone(), region: self.aws_region.clone(), key };
        let (insecure_http, patience) = (self.model_insecure_http, Patience::default());
        Ok(Fetcher::new(RemoteOptions { mlflow, s3, insecure_http, patience }))
    }
}

impl CacheArgs {
    fn cache(&self) -> Option<Cache> {
        self.directory().map(Cache::new)
    }

    fn directory(&self) -> Option<PathBuf> {
        if self.no_model_cache {
            return None;
        }
        self.model_cache.clone().or_else(|| {
            let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            // SAFETY: no preconditions.
            let is_root = unsafe { libc::geteuid() } == 0;
            // systemd's CacheDirectory=; of several the first.
            let given = variable("CACHE_DIRECTORY")
                .and_then(|given| env::split_paths(&given).next().filter(|path| path.is_absolute()));
            given.or_else(|| is_root.then(|| SYSTEM_CACHE.into())).or_else(|| {
                let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
                Some(cache.join("ml-ids/models"))
            })
        })
    }
}

/// `MLFLOW_MODEL_NAME` as the first sensor took it, or the bare name of a model.
fn registered(text: &str) -> Result<Source, String> {
    let spelled = if text.contains(':') { text.to_owned() } else { format!("mlflow:{text}") };
    match spelled.parse::<Source>() {
        Ok(source @ Source::Registered(_)) => Ok(source),
        Ok(_) => Err("it names no registered model; write models:/NAME/STAGE or models:/NAME@ALIAS".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn sha256(text: &str) -> Result<String, String> {
    let fits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits { Ok(text.to_ascii_lowercase()) } else { Err("a SHA-256 has 64 hexadecimal digits".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        model: ModelArgs,
    }

    fn parse(flags: &[&str]) -> Result<ModelArgs, String> {
        Line::try_parse_from([&["x"], flags].concat()).map(|line| line.model).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flag_wins_over_the_registered_name() {
        let name = ["--mlflow-model-name", "models:/ids/Production"];
        let source = |flags: &[&str]| parse(flags).unwrap().source().to_string();
        assert_eq!(source(&name), "mlflow:ids/Production");
        assert_eq!(source(&["--mlflow-model-name", "ids"]), "mlflow:ids");
        assert_eq!(source(&[&name[..], &["--model", "embedded"]].concat()), "embedded");
        assert!(parse(&["--mlflow-model-name", "s3://a/b"]).is_err());
    }

    #[test]
    fn half_of_a_login_is_refused_and_nothing_secret_is_shown() {
        let fails = |flags: &[&str]| parse(flags).unwrap().access.fetcher().unwrap_err().to_string();
        assert!(fails(&["--mlflow-username", "ann"]).contains("MLFLOW_TRACKING_PASSWORD"));
        assert!(fails(&["--aws-access-key-id", "AKID"]).contains("AWS_SECRET_ACCESS_KEY"));
        let whole = ["--mlflow-username", "ann", "--mlflow-password", "hunter2", "--aws-access-key-id", "AKID"];
        let args = parse(&[&whole[..], &["--aws-secret-access-key", "hunter3"]].concat()).unwrap();
        assert!(args.access.fetcher().is_ok());
        assert!(!format!("{args:?}").contains("hunter"), "{args:?}");
    }

    #[test]
    fn a_checksum_that_is_none_is_refused() {
        assert!(parse(&["--model-sha256", "abc"]).is_err());
        assert!(parse(&["--model-sha256", &"A1".repeat(32)]).is_ok());
    }
}
