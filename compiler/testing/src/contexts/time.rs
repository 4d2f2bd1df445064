//! Times as people write them: RFC 3339, or units of 100 ns since 1601 in UTC (`FILETIME`).

use serde_json::Value;

use super::number;

/// Units in a second.
const SECOND: i64 = 10_000_000;
const SECONDS_OF_A_DAY: i64 = 86_400;
/// Digits behind the point of a second.
const FRACTION_DIGITS: usize = 7;
/// The last year that RFC 3339 can write.
const LAST_YEAR: i64 = 9999;

pub(super) fn parse(value: &Value) -> Option<u64> {
    let number = number::integer(value).and_then(|number| u64::try_from(number).ok());
    number.or_else(|| value.as_str().and_then(from_text))
}

/// 0 stays a number: no time is meant.
pub(super) fn show(time: u64) -> Option<Value> {
    let units = i64::try_from(time).ok().filter(|units| *units != 0)?;
    let (seconds, fraction) = (units / SECOND, units % SECOND);
    let (days, second) = (seconds / SECONDS_OF_A_DAY, seconds % SECONDS_OF_A_DAY);
    let (year, month, day) = date(days);
    if year > LAST_YEAR {
        return None;
    }
    let mut text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    if fraction != 0 {
        let digits = format!(".{fraction:0FRACTION_DIGITS$}");
        text += digits.trim_end_matches('0');
    }
    Some((text + "Z").into())
}

fn from_text(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, zone) = rest.split_at(end);
            let fits = (1..=FRACTION_DIGITS).contains(&digits.len());
            let digits = fits.then(|| format!("{digits:0<FRACTION_DIGITS$}"))?;
            (digits.parse().ok()?, zone)
        }
        None => (0, rest),
    };
    let fits = day >= 1 && day <= days_of_month(year, month)? && hour < 24 && minute < 60 && second < 60;
    let seconds = days(year, month, day) * SECONDS_OF_A_DAY + hour * 3600 + minute * 60 + second - offset(zone)?;
    u64::try_from(seconds * SECOND + fraction).ok().filter(|_| fits)
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let [hours, minutes] = numbers(&zone[1..], ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Numbers with these numbers of digits.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(between);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        let plain = part.len() == digits && part.bytes().all(|c| c.is_ascii_digit());
        *number = part.parse().ok().filter(|_| plain)?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Days from the start of 1601 to that of a year.
fn days_before(year: i64) -> i64 {
    let years = year - 1601;
    years * 365 + years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let months = (1..month).filter_map(|month| days_of_month(year, month));
    days_before(year) + months.sum::<i64>() + day - 1
}

fn days_of_month(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    match month {
        2 => Some(if leap { 29 } else { 28 }),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

/// Year, month and day of a day since the start of 1601.
fn date(days: i64) -> (i64, i64, i64) {
    // A year has 365 days or more: the quotient is the year, or a later one.
    let mut year = 1601 + days / 365;
    while days_before(year) > days {
        year -= 1;
    }
    let (mut month, mut day) = (1, days - days_before(year));
    while let Some(length) = days_of_month(year, month).filter(|length| day >= *length) {
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_known_days() {
        // The offset of the Unix epoch is documented for FILETIME.
        let cases = [
            ("1970-01-01T00:00:00Z", 116_444_736_000_000_000),
            ("1601-01-01T00:00:00.0000001Z", 1),
            ("2000-02-29T23:59:59.5Z", 125_963_423_995_000_000),
            ("2026-01-01T00:00:00Z", 134_116_992_000_000_000),
            ("9999-12-31T23:59:59.9999999Z", 2_650_467_743_999_999_999),
        ];
        for (text, time) in cases {
            assert_eq!(from_text(text), Some(time), "{text}");
            assert_eq!(show(time), Some(text.into()), "{text}");
        }
        assert_eq!(
            from_text("2026-01-01t02:30:00+02:30"),
            from_text("2026-01-01T00:00:00Z")
        );
    }

    #[test]
    fn every_day_is_its_own() {
        for day in 0..days(2410, 1, 1) {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-01-01",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.12345678Z",
            "2026-01-01T00:00:00+2:00",
            "2026-01-01T00:00:00+\u{e4}0:00",
            "+026-01-01T00:00:00Z",
            "1600-12-31T23:59:59Z",
            "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}",
        ] {
            assert_eq!(from_text(text), None, "{text}");
        }
        assert_eq!(
            [show(0), show(2_650_467_744_000_000_000), show(u64::MAX)],
            [None, None, None]
        );
    }
}
