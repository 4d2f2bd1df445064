//! Points in time.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use der::DateTime;
use serde::{Serialize, Serializer};

use crate::asn1::{self, Asn1Error};

/// A second, UTC. As text it is `2026-11-22T13:45:16Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// The last second that can be written with four digits of a year.
    const LAST: u64 = 253_402_300_799;

    /// The present.
    pub fn now() -> Time {
        // A clock before 1970 is as wrong as one at 1970.
        Time::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// A time after 1970-01-01; parts of a second are dropped.
    pub fn from_unix(since: Duration) -> Time {
        Time(since.as_secs().min(Time::LAST))
    }

    /// This time, some days later.
    #[must_use]
    pub fn plus_days(self, days: u32) -> Time {
        Time((self.0 + u64::from(days) * 86_400).min(Time::LAST))
    }

    fn date_time(self) -> Option<DateTime> {
        DateTime::from_unix_duration(Duration::from_secs(self.0)).ok()
    }

    /// As `Time` of X.509 (RFC 5280 §4.1.2.5): with two digits of the year through 2049.
    pub(crate) fn to_der(self) -> Vec<u8> {
        let digits: String = self.to_string().chars().filter(char::is_ascii_digit).collect();
        match self.date_time() {
            Some(time) if time.year() < 2050 => {
                asn1::element(asn1::UTC_TIME, &[digits.as_bytes().get(2..).unwrap_or_default(), b"Z"])
            }
            _ => asn1::element(asn1::GENERALIZED_TIME, &[digits.as_bytes(), b"Z"]),
        }
    }

    /// Reads a `GeneralizedTime` of a timestamp, which may have fractions of a second (RFC 3161 §2.4.2).
    pub(crate) fn read_generalized(value: &[u8]) -> Result<Time, Asn1Error> {
        let text = value.strip_suffix(b"Z").ok_or(Asn1Error::Value)?;
        let (whole, fraction) = text.split_at_checked(14).ok_or(Asn1Error::Value)?;
        let valid_fraction = match fraction {
            [] => true,
            [b'.', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        if !valid_fraction || !whole.iter().all(u8::is_ascii_digit) {
            return Err(Asn1Error::Value);
        }
        let number =
            |range: std::ops::Range<usize>| whole[range].iter().fold(0u16, |n, d| n * 10 + u16::from(d - b'0'));
        let part = |start| number(start..start + 2) as u8;
        let time = DateTime::new(number(0..4), part(4), part(6), part(8), part(10), part(12));
        time.map(|time| Time::from_unix(time.unix_duration()))
            .map_err(|_| Asn1Error::Value)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.date_time() {
            Some(time) => write!(f, "{time}"),
            None => f.write_str("9999-12-31T23:59:59Z"),
        }
    }
}

impl FromStr for Time {
    type Err = String;

    /// Reads `2026-11-22`, which is its first second, or `2026-11-22T13:45:16Z`.
    fn from_str(text: &str) -> Result<Time, String> {
        let whole = if text.len() == 10 {
            format!("{text}T00:00:00Z")
        } else {
            text.to_owned()
        };
        let time: Result<DateTime, _> = whole.parse();
        time.map(|time| Time::from_unix(time.unix_duration()))
            .map_err(|_| "a time is written 2026-11-22 or 2026-11-22T13:45:16Z (UTC)".to_owned())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let time: Time = "2026-11-22T13:45:16Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-22T13:45:16Z");
        assert_eq!(
            "2026-11-22".parse::<Time>().unwrap().to_string(),
            "2026-11-22T00:00:00Z"
        );
        assert_eq!(time.to_der(), b"\x17\x0D261122134516Z");
        assert_eq!(
            "2050-01-01".parse::<Time>().unwrap().to_der(),
            b"\x18\x0F20500101000000Z"
        );
        for bad in ["", "2026", "2026-13-01", "2026-11-22 13:45:16", "2026-02-30"] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }

    #[test]
    fn timestamps_may_have_fractions() {
        let read = |text: &str| Time::read_generalized(text.as_bytes()).map(|t| t.to_string());
        assert_eq!(read("20261122134516Z").unwrap(), "2026-11-22T13:45:16Z");
        assert_eq!(read("20261122134516.123Z").unwrap(), "2026-11-22T13:45:16Z");
        for bad in [
            "",
            "Z",
            "20261122134516",
            "20261122134516.Z",
            "2026112213451xZ",
            "20261322134516Z",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
