//! Numbers, addresses and times as text. A row has nearly ninety of them, and a capture can have a row for every two
//! packets, so they are not written through `std::fmt`; the tests hold them to what that writes.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
};

use time::OffsetDateTime;

/// Appends the decimal digits of an integer.
#[inline]
pub(super) fn integer(bytes: &mut Vec<u8>, value: i64) {
    bytes.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the shortest decimal that reads back as the same finite number, integers without a fraction, never with
/// an exponent. Of two that are equally short and close it is the even one, as in Python and JavaScript.
#[inline]
pub(super) fn decimal(bytes: &mut Vec<u8>, value: f64) {
    /// Below this, integers are exact and print faster as such.
    const EXACT: f64 = 9e15;
    let whole = value as i64;
    if whole as f64 == value && value.abs() < EXACT {
        integer(bytes, whole);
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let digits = buffer.format_finite(value);
    if digits.ends_with(".0") || digits.contains('e') {
        in_full(bytes, value);
    } else {
        bytes.extend_from_slice(digits.as_bytes());
    }
}

/// Numbers so large or so small that others write them with an exponent.
#[cold]
fn in_full(bytes: &mut Vec<u8>, value: f64) {
    bytes.extend_from_slice(value.to_string().as_bytes());
}

/// Appends an address.
pub(super) fn address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => v4(bytes, address),
        IpAddr::V6(address) => {
            // Writing to memory does not fail.
            let _ = write!(bytes, "{address}");
        }
    }
}

fn v4(bytes: &mut Vec<u8>, address: Ipv4Addr) {
    let [a, b, c, d] = address.octets();
    integer(bytes, a.into());
    for octet in [b, c, d] {
        bytes.push(b'.');
        integer(bytes, octet.into());
    }
}

/// Appends a time in microseconds since 1970 by RFC 3339, in UTC. Times beyond the year 9999 are written as its end.
pub(super) fn timestamp(bytes: &mut Vec<u8>, time_us: u64) {
    const LAST: i64 = 253_402_300_799;
    let seconds = i64::try_from(time_us / 1_000_000).unwrap_or(LAST).min(LAST);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let parts = [
        (year.unsigned_abs(), 0, 4),
        (u8::from(month).into(), 5, 2),
        (day.into(), 8, 2),
        (hour.into(), 11, 2),
        (minute.into(), 14, 2),
        (second.into(), 17, 2),
        ((time_us % 1_000_000) as u32, 20, 6),
    ];
    for (mut number, start, length) in parts {
        for place in text.get_mut(start..start + length).unwrap_or_default().iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    bytes.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        let mut bits = 1u64;
        let check = |value: f64| {
            let written = text(|bytes| decimal(bytes, value));
            let expected = if value == 0.0 { "0".to_owned() } else { value.to_string() };
            // Between two equally close ones `std` takes the larger.
            let tie = written.len() == expected.len() && written.ends_with(['2', '4', '6', '8', '0']);
            assert!(written == expected || tie, "{written}, expected {expected}");
            assert_eq!(written.parse(), Ok(value));
        };
        for value in [0.0, -0.0, 1.0, -1.0, 9e15, 9e15 - 1.0, 1e16, 1e22, 1e-5, 1e-6, 0.1, 1.0 / 3.0, f64::MAX, 5e-324]
        {
            check(value);
            check(-value);
        }
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(bits);
            if value.is_finite() {
                check(value);
            }
            // As features are: quotients of integers.
            check((bits >> 40) as f64 / ((bits >> 12 & 0xffff) + 1) as f64);
            check((bits >> 30) as f64);
        }
    }

    #[test]
    fn addresses_are_those_of_the_standard_library() {
        for address in ["0.0.0.0", "255.1.20.255", "::", "2001:db8::1:2", "::ffff:1.2.3.4"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(text(|bytes| super::address(bytes, address)), address.to_string());
        }
    }

    #[test]
    fn timestamps_are_utc_with_microseconds() {
        let timestamp = |time_us| text(|bytes| super::timestamp(bytes, time_us));
        assert_eq!(timestamp(1_499_348_422_024_349), "2017-07-06T13:40:22.024349Z");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(timestamp(u64::MAX), "9999-12-31T23:59:59.551615Z");
    }
}
