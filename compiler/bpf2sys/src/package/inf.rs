//! The INF of a driver, from `templates/driver.inf`.
//!
//! It is that of a primitive driver: one that belongs to no device (Microsoft, "Creating a new primitive driver"; Windows 10
//! 1903 and newer).

use bpf2sys_pe_emit::Machine;

use super::Details;
use crate::ProvenanceError;

const TEMPLATE: &str = include_str!("../../../../templates/driver.inf");

/// Lines between these are repeated for each architecture.
const FOR_EACH: &str = ";{for each architecture}\n";
const END: &str = ";{end}\n";

/// Most UTF-16 units of a string of an INF ("INF Strings section", 4096 with its end).
const MAX_STRING: usize = 4095;

/// The file's bytes. ASCII, or else UTF-16 with a byte order mark: Windows knows no UTF-8 there ("General guidelines for INF
/// files").
pub(super) fn text(name: &str, machines: &[Machine], details: &Details) -> Result<Vec<u8>, ProvenanceError> {
    let provider = string(&details.provider)?;
    let mut machines = machines.to_vec();
    machines.sort_by_key(|machine| *machine == Machine::Arm64);
    let template = TEMPLATE.replace("\r\n", "\n");
    let mut text = String::new();
    let mut rest = template.as_str();
    while let Some((before, block)) = rest.split_once(FOR_EACH) {
        let (block, after) = block
            .split_once(END)
            .ok_or_else(|| ProvenanceError::Package("the template has a block without end".into()))?;
        text.push_str(before);
        for machine in &machines {
            let decoration = match machine {
                Machine::X64 => "amd64",
                Machine::Arm64 => "arm64",
            };
            let block = block.replace("{decoration}", decoration);
            text.push_str(&block.replace("{architecture}", &machine.to_string()));
        }
        rest = after;
    }
    text.push_str(rest);
    let date = details.date;
    let date = format!("{:02}/{:02}/{:04}", u8::from(date.month()), date.day(), date.year());
    let version = details.version.0.map(|number| number.to_string()).join(".");
    // The provider last: what is in it is no placeholder.
    let text = text
        .replace("{name}", name)
        .replace("{date}", &date)
        .replace("{version}", &version)
        .replace("{provider}", &provider)
        .replace('\n', "\r\n");
    Ok(if text.is_ascii() {
        text.into_bytes()
    } else {
        [0xFEFF]
            .into_iter()
            .chain(text.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect()
    })
}

/// Text between quotes, where quotes and percent signs are written twice.
fn string(text: &str) -> Result<String, ProvenanceError> {
    if text.trim().is_empty() || text.chars().any(char::is_control) || text.encode_utf16().count() > MAX_STRING {
        return Err(ProvenanceError::Package(format!(
            "the provider needs 1 to {MAX_STRING} characters, without control characters"
        )));
    }
    Ok(text.replace('"', "\"\"").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use time::{Date, Month};

    use super::*;
    use crate::Version;

    fn inf(provider: &str, machines: &[Machine]) -> Result<Vec<u8>, ProvenanceError> {
        let details = Details {
            provider: provider.into(),
            date: Date::from_calendar_date(2026, Month::March, 9).unwrap(),
            version: Version([1, 4, 0, 20]),
        };
        text("filter", machines, &details)
    }

    #[test]
    fn every_placeholder_is_filled() {
        let text = inf("Contoso", &[Machine::Arm64, Machine::X64]).unwrap();
        let text = String::from_utf8(text).unwrap();
        let without_guid = text.replace("{4d36e97d-e325-11ce-bfc1-08002be10318}", "");
        assert!(!without_guid.contains(['{', '}']), "{text}");
        assert!(text.contains("DriverVer   = 03/09/2026,1.4.0.20\r\n"), "{text}");
        assert!(
            text.contains("Driver.amd64 = 13,x64\r\nDriver.arm64 = 13,arm64\r\n"),
            "{text}"
        );
        assert_eq!(text.matches("[DestinationDirs]").count(), 1);
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }

    #[test]
    fn text_beyond_ascii_is_utf_16() {
        let bytes = inf("Kontoso GmbH & Co. Ä", &[Machine::X64]).unwrap();
        assert_eq!(bytes[..2], [0xFF, 0xFE]);
        let units: Vec<u16> = bytes[2..]
            .as_chunks::<2>()
            .0
            .iter()
            .map(|unit| u16::from_le_bytes(*unit))
            .collect();
        assert!(
            String::from_utf16(&units)
                .unwrap()
                .contains("Provider = \"Kontoso GmbH & Co. Ä\"\r\n")
        );
    }

    #[test]
    fn providers_are_text_and_nothing_else() {
        let text = String::from_utf8(inf(r#"A "b" 5% {date}"#, &[Machine::X64]).unwrap()).unwrap();
        assert!(text.contains(r#"Provider = "A ""b"" 5%% {date}""#), "{text}");
        for bad in ["", "  ", "a\nb", "a\0", &"a".repeat(4096)] {
            assert!(inf(bad, &[Machine::X64]).is_err(), "{bad}");
        }
    }
}
