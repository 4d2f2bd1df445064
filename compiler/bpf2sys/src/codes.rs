//! The codes of all problems, and what is told of each at length: the catalogue.
//!
//! A [`Diagnostic`](crate::Diagnostic) can't be made without a [`Code`], and the list below does not compile where the page of a code is
//! missing. The pages are `docs/codes/BPFnnnn.md`; `tests/codes.rs` states their form, and runs their examples.
//!
//! A code, once given, keeps its meaning. What gets another meaning gets another code.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Severity;

/// Makes [`Code`] of lines `CODE Severity,`.
macro_rules! codes {
    ($($code:ident $severity:ident,)*) => {
        /// The stable code of a kind of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(
                #[doc = concat!("See `bpf2sys explain ", stringify!($code), "`.")]
                $code,
            )*
        }

        impl Code {
            /// All codes, in ascending order.
            pub const ALL: &[Code] = &[$(Code::$code),*];

            /// As it is written: `BPF` and four digits.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Code::$code => stringify!($code),)*
                }
            }

            /// How bad a problem of this kind is.
            pub const fn severity(self) -> Severity {
                match self {
                    $(Code::$code => Severity::$severity,)*
                }
            }

            /// Its page in the catalogue, as Markdown.
            pub const fn page(self) -> &'static str {
                match self {
                    $(Code::$code => include_str!(concat!("../docs/codes/", stringify!($code), ".md")),)*
                }
            }
        }
    };
}

codes! {
    BPF1001 Error,
    BPF1002 Error,
    BPF1003 Error,
    BPF1004 Error,
    BPF1005 Error,
    BPF1006 Error,
    BPF1007 Error,
    BPF1008 Error,
    BPF1009 Error,
    BPF1010 Error,
    BPF1011 Error,
    BPF1012 Error,
    BPF1013 Error,
    BPF1014 Error,
    BPF1015 Error,
    BPF1016 Error,
    BPF1017 Error,
    BPF1018 Error,
    BPF2001 Error,
    BPF2002 Error,
    BPF2003 Error,
    BPF2004 Error,
    BPF2005 Error,
    BPF2006 Error,
    BPF2007 Error,
    BPF2010 Error,
    BPF2011 Error,
    BPF2012 Error,
    BPF2013 Error,
    BPF2014 Error,
    BPF2015 Error,
    BPF2016 Error,
    BPF2017 Error,
    BPF2018 Error,
    BPF2020 Error,
    BPF2021 Error,
    BPF2022 Error,
    BPF2023 Error,
    BPF2024 Error,
    BPF2025 Error,
    BPF2026 Error,
    BPF2027 Error,
    BPF2028 Error,
    BPF2029 Error,
    BPF2030 Error,
    BPF2032 Error,
    BPF2033 Error,
    BPF2034 Error,
    BPF2035 Error,
    BPF2036 Error,
    BPF2050 Warning,
    BPF2051 Warning,
    BPF2052 Warning,
    BPF2101 Error,
    BPF2102 Error,
    BPF2103 Error,
    BPF2104 Error,
    BPF2105 Error,
    BPF2106 Error,
    BPF2107 Error,
    BPF2108 Error,
    BPF2109 Error,
    BPF2110 Error,
    BPF2111 Error,
    BPF2112 Error,
    BPF2113 Error,
    BPF2114 Error,
    BPF2115 Error,
    BPF2120 Error,
    BPF2121 Error,
    BPF2122 Error,
    BPF2123 Error,
    BPF2124 Error,
    BPF2125 Error,
    BPF2126 Error,
    BPF2130 Error,
    BPF2131 Error,
    BPF2132 Error,
    BPF2133 Error,
    BPF2134 Error,
    BPF2135 Error,
    BPF2136 Error,
    BPF2137 Error,
    BPF2138 Error,
    BPF2140 Error,
    BPF2141 Error,
    BPF2142 Error,
    BPF2143 Error,
    BPF2144 Error,
    BPF2145 Error,
    BPF2146 Error,
    BPF2147 Error,
    BPF2148 Error,
    BPF2149 Error,
    BPF2150 Error,
    BPF2151 Error,
    BPF2152 Error,
    BPF2160 Error,
    BPF2161 Error,
    BPF2170 Error,
    BPF2171 Error,
    BPF2180 Error,
    BPF2181 Error,
    BPF2182 Error,
    BPF2183 Error,
    BPF2184 Error,
    BPF3001 Error,
    BPF3002 Error,
    BPF3003 Error,
    BPF3004 Error,
    BPF3005 Error,
    BPF3006 Error,
    BPF3101 Error,
    BPF3102 Error,
    BPF3103 Error,
    BPF3104 Warning,
    BPF3105 Error,
    BPF3106 Error,
    BPF3999 Error,
    BPF4001 Error,
    BPF5001 Error,
    BPF5002 Error,
    BPF5003 Error,
    BPF5004 Error,
    BPF5005 Error,
    BPF5006 Error,
    BPF5007 Error,
    BPF5008 Error,
    BPF5009 Error,
    BPF5010 Error,
    BPF5011 Error,
    BPF5012 Error,
    BPF5013 Error,
    BPF5014 Error,
    BPF5015 Error,
    BPF5016 Error,
    BPF5017 Error,
    BPF5018 Error,
    BPF5019 Error,
    BPF5020 Error,
    BPF5021 Error,
    BPF6001 Error,
    BPF6002 Error,
    BPF6010 Error,
    BPF6011 Error,
    BPF6012 Error,
    BPF6013 Error,
    BPF6014 Error,
    BPF6015 Error,
    BPF6016 Error,
    BPF6017 Error,
    BPF6018 Warning,
    BPF6019 Error,
    BPF6020 Error,
    BPF6021 Error,
    BPF6022 Warning,
    BPF7001 Error,
    BPF7002 Error,
    BPF7003 Error,
    BPF7004 Error,
    BPF7005 Error,
    BPF7006 Error,
    BPF7007 Error,
    BPF7008 Error,
    BPF7009 Error,
    BPF7010 Error,
    BPF7011 Error,
    BPF7020 Error,
    BPF7021 Error,
    BPF7022 Error,
    BPF7023 Error,
    BPF7024 Error,
    BPF7025 Error,
    BPF7026 Error,
    BPF7027 Warning,
    BPF7028 Error,
    BPF8001 Error,
    BPF8002 Error,
    BPF8003 Error,
    BPF8004 Warning,
    BPF9001 Error,
    BPF9002 Error,
    BPF9003 Error,
    BPF9004 Error,
    BPF9005 Error,
    BPF9006 Warning,
    BPF9007 Error,
    BPF9008 Error,
    BPF9999 Error,
}

/// What the codes that begin with the same digits are about: the digits, and words.
const FAMILIES: [(&str, &str); 11] = [
    ("1", "Objects that can't be read"),
    ("20", "Programs that break a rule"),
    ("21", "Programs that are not proven safe"),
    ("3", "Modules that can't be compiled"),
    ("4", "Modules that can't be linked"),
    ("5", "Images that break a rule, or are refused or misbehave in a run"),
    ("6", "Platform descriptions that can't be used"),
    (
        "7",
        "Signatures, keys and certificates; statements of provenance, and packages",
    ),
    ("8", "C sources that can't be compiled"),
    ("9", "Files, the command line, and this machine"),
    ("", "Others"),
];

impl Code {
    /// What the codes around it are about.
    pub fn family(self) -> &'static str {
        let family = FAMILIES.iter().find(|(digits, _)| self.digits().starts_with(digits));
        family.map_or("", |(_, words)| words)
    }

    fn digits(self) -> &'static str {
        &self.name()[3..]
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is no code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCode {
    /// Codes that may be meant, the nearest one first.
    pub near: Vec<Code>,
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = Code::ALL.iter().find(|code| code.name() == name);
        known.copied().ok_or_else(|| serde::de::Error::custom("no code"))
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    /// Takes it in any case, and with or without `BPF`.
    fn from_str(text: &str) -> Result<Code, UnknownCode> {
        let text = text.trim().to_ascii_uppercase();
        let digits = text.strip_prefix("BPF").unwrap_or(&text);
        match Code::ALL.iter().find(|code| code.digits() == digits) {
            Some(code) => Ok(*code),
            None => Err(UnknownCode { near: near(digits) }),
        }
    }
}

/// At most five codes that differ from `digits` in one place, or else those with the nearest numbers; none if it is no
/// number of four digits.
fn near(digits: &str) -> Vec<Code> {
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    let number = |digits: &str| digits.parse::<u16>().unwrap_or(u16::MAX);
    let other_places = |code: &Code| {
        code.digits()
            .bytes()
            .zip(digits.bytes())
            .filter(|(a, b)| a != b)
            .count()
    };
    let distance = |code: &Code| number(code.digits()).abs_diff(number(digits));
    let mut near: Vec<Code> = Code::ALL
        .iter()
        .copied()
        .filter(|code| other_places(code) == 1)
        .collect();
    if near.is_empty() {
        near = Code::ALL.to_vec();
    }
    near.sort_by_key(distance);
    near.truncate(5);
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_have_the_form_of_codes() {
        assert!(Code::ALL.is_sorted_by(|a, b| a.name() < b.name()));
        for code in Code::ALL {
            let digits = code.name().strip_prefix("BPF").unwrap();
            assert!(
                digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()),
                "{code}"
            );
        }
    }

    #[test]
    fn every_page_begins_with_its_code_and_a_title() {
        for code in Code::ALL {
            let first = code.page().lines().next().unwrap();
            let title = first
                .strip_prefix(&format!("# {code}: "))
                .unwrap_or_else(|| panic!("{code}: {first}"));
            assert!(
                !title.is_empty() && title == title.trim() && !title.ends_with('.'),
                "{code}: {title}"
            );
            assert_eq!(code.title(), title);
        }
    }

    #[test]
    fn every_code_has_a_family() {
        for code in Code::ALL {
            assert_ne!(code.family(), "Others", "{code}");
        }
    }

    #[test]
    fn codes_are_found_as_people_write_them() {
        for text in ["BPF2001", "bpf2001", "2001", " Bpf2001\n"] {
            assert_eq!(text.parse(), Ok(Code::BPF2001));
        }
    }

    #[test]
    fn what_is_no_code_gives_those_near_it() {
        let near = |text: &str| text.parse::<Code>().unwrap_err().near;
        assert_eq!(near("BPF1000")[..2], [Code::BPF1001, Code::BPF1002]);
        assert!(near("BPF1101").contains(&Code::BPF1001));
        assert_eq!(near("7777").len(), 5);
        for text in ["", "BPF", "E0308", "20011", "٣٣٣٣", "+123"] {
            assert_eq!(near(text), [], "{text}");
        }
    }
}
