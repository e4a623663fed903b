//! The parameters of a query string.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Names and values in their order, decoded as forms encode them; a name alone has an empty value.
pub(crate) fn parameters(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        return percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned().into();
    }
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_plus_signs_are_decoded() {
        let found: Vec<_> = parameters(Some("a=1&b%20c=d+e%2B&&f&g=%ff=")).collect();
        let expected = [("a", "1"), ("b c", "d e+"), ("f", ""), ("g", "\u{fffd}=")];
        assert_eq!(found, expected.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(parameters(None).count(), 0);
    }
}
