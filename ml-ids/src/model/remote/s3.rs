//! Objects in S3 and what speaks its language: addresses and signatures (Signature Version 4, by `aws-sigv4`).

use std::time::SystemTime;

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    error::{Credentials, FetchError},
    http::{Get, Got, Http, Progress},
};
use crate::model::source::{Secret, WebUrl};

/// Region of signatures where none is named; what S3's lookalikes expect, too.
const DEFAULT_REGION: &str = "us-east-1";

/// What S3 wants encoded in a path: all but letters, digits and these.
pub(super) const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Where S3 is, and the key to it.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// Address of a service other than Amazon's.
    pub endpoint: Option<WebUrl>,
    /// Region, also of the signature.
    pub region: Option<String>,
    /// Without it requests are not signed, which is right for public objects.
    pub key: Option<AwsKey>,
}

/// A key.
#[derive(Clone, Debug)]
pub struct AwsKey {
    /// Its public half.
    pub id: String,
    /// Its private half.
    pub secret: Secret,
    /// The token of a temporary key.
    pub session: Option<Secret>,
}

impl S3Options {
    /// Reads an object.
    pub(super) fn get(
        &self,
        http: &Http,
        (bucket, key): (&str, &str),
        known: Option<&str>,
        max_bytes: u64,
        progress: Progress<'_>,
    ) -> Result<Got, FetchError> {
        let url = self.address(bucket, key)?;
        let (headers, signed) = match &self.key {
            Some(aws) => (self.sign(&url, aws)?, Credentials::Signature),
            None => (HeaderMap::new(), Credentials::Unsigned),
        };
        http.get(&Get { url, auth: None, headers, signed, known, max_bytes }, progress)
    }

    fn region(&self) -> &str {
        self.region.as_deref().unwrap_or(DEFAULT_REGION)
    }

    /// The bucket in the host's name at Amazon, as it wants it, and in the path elsewhere and where the bucket's name
    /// has dots, which no certificate covers.
    fn address(&self, bucket: &str, key: &str) -> Result<WebUrl, FetchError> {
        let region = self.region();
        let [bucket_path, key] = [bucket, key].map(|text| utf8_percent_encode(text, PATH).to_string());
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.join(&format!("{bucket_path}/{key}"))?);
        }
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let address = if bucket.contains('.') {
            format!("https://s3.{region}.{domain}/{bucket_path}/{key}")
        } else {
            format!("https://{bucket}.s3.{region}.{domain}/{key}")
        };
        Ok(address.parse()?)
    }

    fn sign(&self, url: &WebUrl, AwsKey { id, secret, session }: &AwsKey) -> Result<HeaderMap, FetchError> {
        let wrong = |error: &dyn std::fmt::Display| FetchError::Signing(error.to_string());
        let session = session.as_ref().map(|session| session.reveal().to_owned());
        let identity = AwsCredentials::new(id, secret.reveal(), session, None, "ml-ids").into();
        let mut settings = SigningSettings::default();
        // What S3 asks for, unlike Amazon's other services.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region())
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| wrong(&error))?
            .into();
        let uri = url.uri().to_string();
        let request = SignableRequest::new("GET", uri.as_str(), std::iter::empty(), SignableBody::Bytes(b""))
            .map_err(|error| wrong(&error))?;
        let (instructions, _) = sign(request, &parameters).map_err(|error| wrong(&error))?.into_parts();
        let mut headers = HeaderMap::new();
        for (name, value) in instructions.headers() {
            let name = HeaderName::try_from(name).map_err(|error| wrong(&error))?;
            let mut value = HeaderValue::try_from(value).map_err(|error| wrong(&error))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoint: Option<&str>, region: Option<&str>) -> S3Options {
        let endpoint = endpoint.map(|endpoint| endpoint.parse().unwrap());
        S3Options { endpoint, region: region.map(str::to_owned), key: None }
    }

    fn address(options: &S3Options, bucket: &str, key: &str) -> String {
        options.address(bucket, key).unwrap().to_string()
    }

    #[test]
    fn the_bucket_is_in_the_host_at_amazon_and_in_the_path_elsewhere() {
        let amazon = options(None, Some("eu-west-1"));
        assert_eq!(address(&amazon, "b", "a/m.onnx"), "https://b.s3.eu-west-1.amazonaws.com/a/m.onnx");
        assert_eq!(address(&amazon, "b.c", "m"), "https://s3.eu-west-1.amazonaws.com/b.c/m");
        let china = options(None, Some("cn-north-1"));
        assert_eq!(address(&china, "b", "m"), "https://b.s3.cn-north-1.amazonaws.com.cn/m");
        let own = options(Some("http://127.0.0.1:9000/"), None);
        assert_eq!(address(&own, "b", "a b/ü+.onnx"), "http://127.0.0.1:9000/b/a%20b/%C3%BC%2B.onnx");
    }

    #[test]
    fn a_signature_names_key_region_and_temporary_token_and_hides_in_debug_output() {
        let key = AwsKey {
            id: "AKID".to_owned(),
            secret: Secret::new("hush".to_owned()),
            session: Some(Secret::new("token".to_owned())),
        };
        let options = options(None, Some("eu-west-1"));
        let url = options.address("b", "m").unwrap();
        let headers = options.sign(&url, &key).unwrap();
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{authorization}");
        assert!(authorization.contains("/eu-west-1/s3/aws4_request"), "{authorization}");
        assert_eq!(headers["x-amz-security-token"], "token");
        assert!(!format!("{headers:?} {key:?}").contains("hush") && !format!("{headers:?}").contains("Signature"));
    }
}
