//! Dates and URIs, as the command line and the environment have them.

use time::{Date, OffsetDateTime};

use super::usage;
use crate::Error;

/// The environment variable that stands for the clock (reproducible-builds.org, "`SOURCE_DATE_EPOCH`").
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The date that the environment says, if it does: that of a moment in seconds since 1970, in UTC.
pub(super) fn epoch() -> Result<Option<Date>, Error> {
    let Some(text) = std::env::var_os(EPOCH) else {
        return Ok(None);
    };
    let text = text.to_string_lossy();
    let moment = text
        .parse()
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    match moment {
        Some(moment) => Ok(Some(moment.date())),
        None => Err(usage(format!(
            "`{EPOCH}` is `{text}`, and not a number of seconds since 1970"
        ))),
    }
}

/// Parses `--driver-date`.
pub(super) fn date(text: &str) -> Result<Date, String> {
    let parse = || {
        let mut parts = text.split('-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            part.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| part.parse::<u16>().ok())?
        };
        let (year, month, day) = (number(4)?, number(2)?, number(2)?);
        let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
        let date = Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
        parts.next().is_none().then_some(date)
    };
    parse().ok_or_else(|| "expected a date as year-month-day, e.g. 2026-11-22".to_owned())
}

/// Parses `--builder-id`.
pub(super) fn uri(text: &str) -> Result<String, String> {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !is_scheme || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected a URI: a scheme, a colon and more, without spaces".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::DEFAULT_BUILDER;

    #[test]
    fn dates_are_year_month_day_and_exist() {
        assert_eq!(date("2024-02-29").unwrap().to_ordinal_date(), (2024, 60));
        for bad in [
            "",
            "2023-02-29",
            "2023-2-1",
            "23-02-01",
            "2023-02",
            "2023-02-01-",
            "+023-02-01",
            "2023-13-01",
        ] {
            assert!(date(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn builders_are_uris() {
        assert!(uri("https://ci.example/b?x=1").is_ok() && uri(DEFAULT_BUILDER).is_ok());
        for bad in ["", "ci", ":x", "1a:b", "a b:c", "https://a b", "https://ä"] {
            assert!(uri(bad).is_err(), "{bad}");
        }
    }
}
