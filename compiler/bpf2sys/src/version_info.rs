//! The file that `--version-info` names: what the version resource of an image says.

use std::str::FromStr;

use bpf2sys_pe_emit::{Version, VersionInfo};
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// The keys of the file. Each string becomes the one that the SDK names (`VERSIONINFO` resource, "String information").
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Keys {
    company: String,
    product: String,
    description: String,
    file_version: FourNumbers,
    product_version: Option<FourNumbers>,
    copyright: Option<String>,
    trademarks: Option<String>,
    comments: Option<String>,
    internal_name: Option<String>,
    original_filename: Option<String>,
}

/// A version as people write it, with one to four numbers.
struct FourNumbers {
    version: Version,
    text: String,
}

impl FromStr for FourNumbers {
    type Err = String;

    fn from_str(text: &str) -> Result<FourNumbers, String> {
        let mut numbers = [0; 4];
        let mut places = numbers.iter_mut();
        for part in text.split('.') {
            let number = Some(part)
                .filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|part| part.parse().ok());
            match (places.next(), number) {
                (Some(place), Some(number)) => *place = number,
                _ => {
                    return Err(format!(
                        "`{text}` is not a version: one to four numbers up to 65535, with dots between"
                    ));
                }
            }
        }
        Ok(FourNumbers {
            version: Version(numbers),
            text: text.to_owned(),
        })
    }
}

impl<'de> Deserialize<'de> for FourNumbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FourNumbers, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Parses a version of one to four numbers with dots between, or tells what is wrong with it.
pub(crate) fn version(text: &str) -> Result<Version, String> {
    text.parse().map(|numbers: FourNumbers| numbers.version)
}

/// Reads the text of such a file.
///
/// # Errors
/// What is wrong with it, with the line.
pub(crate) fn parse(text: &str) -> Result<VersionInfo, String> {
    let keys = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    of_keys(keys)
}

/// Reads a table of another file, with the same keys.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn of_table(table: Spanned<DeValue<'_>>) -> Result<VersionInfo, String> {
    let keys = Keys::deserialize(ValueDeserializer::from(table)).map_err(|error| error.message().to_owned())?;
    of_keys(keys)
}

fn of_keys(file: Keys) -> Result<VersionInfo, String> {
    let FourNumbers { version, text } = file.file_version;
    let (product_version, product_text) = match file.product_version {
        Some(product) => (product.version, product.text),
        None => (version, text.clone()),
    };
    let strings = [
        ("CompanyName", Some(file.company)),
        ("FileDescription", Some(file.description)),
        ("FileVersion", Some(text)),
        ("InternalName", file.internal_name),
        ("LegalCopyright", file.copyright),
        ("LegalTrademarks", file.trademarks),
        ("OriginalFilename", file.original_filename),
        ("ProductName", Some(file.product)),
        ("ProductVersion", Some(product_text)),
        ("Comments", file.comments),
    ];
    let mut given = Vec::new();
    for (name, text) in strings {
        let Some(text) = text else { continue };
        if text.contains('\0') {
            return Err(format!(
                "the string for {name} contains a NUL character, which would end it"
            ));
        }
        given.push((name.to_owned(), text));
    }
    let info = VersionInfo {
        file_version: version,
        product_version,
        strings: given,
    };
    if info.fits() {
        Ok(info)
    } else {
        let most = VersionInfo::MAX_UNITS;
        Err(format!(
            "it has more text than the {most} characters that a resource holds"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str =
        "company = \"Contoso\"\nproduct = \"Filter\"\ndescription = \"Filters\"\nfile-version = \"1.2\"\n";

    #[test]
    fn the_version_of_the_product_is_that_of_the_file_unless_given() {
        let info = parse(LEAST).unwrap();
        assert_eq!(info.file_version, Version([1, 2, 0, 0]));
        assert_eq!(info.product_version, Version([1, 2, 0, 0]));
        let names: Vec<&str> = info.strings.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "CompanyName",
            "FileDescription",
            "FileVersion",
            "ProductName",
            "ProductVersion",
        ];
        assert_eq!(names, expected);

        let info = parse(&format!("{LEAST}product-version = \"9.8.7.65535\"\n")).unwrap();
        assert_eq!(info.product_version, Version([9, 8, 7, 65535]));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let problem = |text: &str| parse(text).unwrap_err();
        for version in ["", "1.", "1.2.3.4.5", "65536", "+1", "1.x", "-1"] {
            let text = LEAST.replace("1.2", version);
            let problem = problem(&text);
            assert!(
                problem.contains("line 4") && problem.contains("is not a version"),
                "{problem}"
            );
        }
        assert!(problem(&format!("{LEAST}colour = \"red\"\n")).contains("unknown field `colour`"));
        assert!(problem("company = 3").contains("line 1"));
        assert!(problem(&LEAST.replace("Filters", "a\\u0000b")).contains("NUL"));
        assert!(problem("").contains("missing field"));
        let long = LEAST.replace("Filters", &"x".repeat(VersionInfo::MAX_UNITS));
        assert!(problem(&long).contains("more text"));
    }
}
