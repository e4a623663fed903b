//! Addresses on the web, which may carry a password and never show it.

use std::{fmt, net::IpAddr, str::FromStr};

use percent_encoding::percent_decode_str;
use ureq::http::Uri;

use super::{Auth, Secret, SourceError};

/// An `https://` or `http://` address, without what stood before the `@`.
#[derive(Clone, PartialEq, Eq)]
pub struct WebUrl {
    uri: Uri,
    auth: Option<Auth>,
}

impl FromStr for WebUrl {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        // The address itself may hold a password, so it is not part of the error.
        let wrong = || SourceError::Address;
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        if scheme != "http" && scheme != "https" {
            return Err(wrong());
        }
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let authority_ends = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_ends);
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let uri: Uri = format!("{scheme}://{host}{path}").parse().map_err(|_| wrong())?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let auth = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            Auth::Basic { user: decoded(user), password: Secret::new(decoded(password)) }
        });
        Ok(Self { uri, auth })
    }
}

impl WebUrl {
    /// The address without its password.
    pub(crate) const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// What stood before the `@`.
    pub(crate) const fn auth(&self) -> Option<&Auth> {
        self.auth.as_ref()
    }

    /// Nobody on the way can read or change what is sent: TLS, or this very host.
    pub(crate) fn is_protected(&self) -> bool {
        self.uri.scheme_str() == Some("https") || self.is_loopback()
    }

    /// This very host.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }

    /// Whether credentials for one may be shown to the other: same scheme, host and port.
    pub(in crate::model) fn same_origin(&self, other: &Self) -> bool {
        let origin = |url: &Self| {
            let scheme = url.uri.scheme_str().unwrap_or_default().to_owned();
            let port = url.uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
            (scheme, url.uri.host().unwrap_or_default().to_ascii_lowercase(), port)
        };
        origin(self) == origin(other)
    }

    /// The address with `suffix`, already encoded, behind its path. A query is dropped.
    pub(in crate::model) fn join(&self, suffix: &str) -> Result<Self, SourceError> {
        let base = self.uri.path().trim_end_matches('/');
        let mut joined: Self = format!("{}/{}", self.origin_text() + base, suffix.trim_start_matches('/')).parse()?;
        joined.auth.clone_from(&self.auth);
        Ok(joined)
    }

    /// Where `location`, the header of a redirect, leads: an address or a path from the root. No password comes along.
    pub(in crate::model) fn redirected(&self, location: &str) -> Result<Self, SourceError> {
        if location.starts_with('/') && !location.starts_with("//") {
            (self.origin_text() + location).parse()
        } else {
            let target: Self = location.parse()?;
            Ok(Self { auth: None, ..target })
        }
    }

    /// Scheme, host and port.
    pub(crate) fn origin_text(&self) -> String {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        format!("{}://{authority}", self.uri.scheme_str().unwrap_or("https"))
    }
}

impl fmt::Display for WebUrl {
    /// Without password and query, which may hold a signature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.uri.path();
        let query = if self.uri.query().is_some() { "?…" } else { "" };
        write!(f, "{}{}{query}", self.origin_text(), if path == "/" { "" } else { path })
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> WebUrl {
        text.parse().unwrap()
    }

    #[test]
    fn passwords_and_signatures_are_kept_but_never_shown() {
        let url = url("https://ann:p%40ss@models.example/a/m.onnx?X-Amz-Signature=abc#part");
        assert_eq!(url.to_string(), "https://models.example/a/m.onnx?…");
        assert_eq!(format!("{url:?}"), "WebUrl(https://models.example/a/m.onnx?…)");
        assert_eq!(url.uri().query(), Some("X-Amz-Signature=abc"));
        let expected = Auth::Basic { user: "ann".to_owned(), password: Secret::new("p@ss".to_owned()) };
        assert_eq!(url.auth(), Some(&expected));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["https://", "https:///m", "ftp://host/m", "http//host", "https://ho st/m"] {
            assert!(text.parse::<WebUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn plain_http_is_protected_on_this_host_only() {
        for text in ["https://example.org/m", "http://127.0.0.1:5000", "http://[::1]/m", "http://localhost:1/"] {
            assert!(url(text).is_protected(), "{text}");
        }
        for text in
            ["http://example.org/m", "http://10.0.0.1", "http://localhost.example.org", "http://127.0.0.1.nip.io"]
        {
            assert!(!url(text).is_protected(), "{text}");
        }
    }

    #[test]
    fn another_scheme_host_or_port_is_another_origin() {
        let origin = url("https://example.org/a");
        assert!(origin.same_origin(&url("https://EXAMPLE.org:443/b")));
        for text in ["http://example.org/a", "https://example.com/a", "https://example.org:8443/a"] {
            assert!(!origin.same_origin(&url(text)), "{text}");
        }
    }

    #[test]
    fn paths_are_joined_and_redirects_followed_without_the_password() {
        let base = url("https://ann:x@host:1/mlflow/");
        let joined = base.join("api/2.0/x?name=a%20b").unwrap();
        assert_eq!(joined.uri().to_string(), "https://host:1/mlflow/api/2.0/x?name=a%20b");
        assert_eq!(joined.auth(), base.auth());
        assert_eq!(base.redirected("/b?c").unwrap().uri().to_string(), "https://host:1/b?c");
        let away = base.redirected("https://bob:y@other/b").unwrap();
        assert_eq!((away.to_string().as_str(), away.auth()), ("https://other/b", None));
        assert!(base.redirected("//other/b").is_err() && base.redirected("b").is_err());
    }
}
