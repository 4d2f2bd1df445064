//! Where two images differ.

use std::fmt::{self, Write};

/// How many bytes are shown of each.
const SHOWN: usize = 8;

/// A difference between an image and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs: the headers, sections, the size.
    parts: Vec<String>,
    /// The first difference, in words. One behind the headers, if there is one: those have a hash over the rest.
    first: String,
}

impl Difference {
    /// The first difference: where it is, and the bytes there.
    pub fn first(&self) -> &str {
        &self.first
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join(", "))
    }
}

/// A range of the file.
struct Part {
    name: String,
    start: usize,
    size: usize,
    /// RVA of its first byte.
    address: usize,
}

/// How an image differs from what it should be; `None` if it does not.
pub(crate) fn difference(image: &[u8], rebuilt: &[u8]) -> Option<Difference> {
    if image == rebuilt {
        return None;
    }
    // Of one of our images; should there be no parts in it, the file as a whole differs.
    let parts = parts(rebuilt).unwrap_or_default();
    let differing = |part: &&Part| {
        let range = |bytes: &[u8]| bytes.get(part.start..part.start + part.size).map(<[u8]>::to_vec);
        range(image) != range(rebuilt)
    };
    let differing: Vec<&Part> = parts.iter().filter(differing).collect();
    let mut names: Vec<String> = differing.iter().map(|part| part.name.clone()).collect();
    if image.len() != rebuilt.len() || names.is_empty() {
        names.push("the size of the file".into());
    }
    let part = differing.iter().find(|part| part.start > 0).or(differing.first());
    let from = part.map_or(0, |part| part.start);
    let pairs = image.iter().zip(rebuilt).skip(from);
    let at = from + pairs.take_while(|(a, b)| a == b).count();
    let mut first = format!("first at {at:#x} in the file");
    if let Some(part) = part {
        let _ = write!(first, " ({}, RVA {:#x})", part.name, part.address + (at - part.start));
    }
    let _ = write!(first, ": it has {}, and not {}", shown(image, at), shown(rebuilt, at));
    if image.len() != rebuilt.len() {
        let _ = write!(first, "; it has {} bytes, and not {}", image.len(), rebuilt.len());
    }
    Some(Difference { parts: names, first })
}

fn shown(bytes: &[u8], at: usize) -> String {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return "its end".into();
    }
    let digits: Vec<String> = rest.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

/// Headers and sections with raw data, in the order of the file; `None` if the file is no image.
fn parts(image: &[u8]) -> Option<Vec<Part>> {
    let word = |at: usize| Some(u32::from_le_bytes(*image.get(at..at + 4)?.first_chunk()?) as usize);
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(*image.get(at..at + 2)?.first_chunk()?)));
    let header = word(0x3C)?;
    let (count, optional) = (half(header + 6)?, half(header + 20)?);
    let mut parts = vec![Part {
        name: "the headers".into(),
        start: 0,
        size: word(header + 24 + 60)?,
        address: 0,
    }];
    for index in 0..count {
        let section = header + 24 + optional + 40 * index;
        let name = image.get(section..section + 8)?.split(|byte| *byte == 0).next()?;
        let part = Part {
            name: format!("section `{}`", String::from_utf8_lossy(name)),
            address: word(section + 12)?,
            size: word(section + 16)?,
            start: word(section + 20)?,
        };
        if part.size > 0 {
            parts.push(part);
        }
    }
    parts.sort_by_key(|part| part.start);
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_with_sections_and_the_first_bytes() {
        let object = std::fs::read("../../tests/fixtures/codes/BPF5009.o").unwrap();
        let built = crate::build(&object, "filter.o", &crate::BuildOptions::default()).unwrap();
        let image = &built.outputs[0].bytes;
        assert_eq!(difference(image, image), None);
        let changed = |places: &[usize]| {
            let mut changed = image.clone();
            for place in places {
                changed[*place] ^= 0xFF;
            }
            difference(&changed, image).unwrap()
        };
        let headers = changed(&[0x10]);
        assert_eq!(headers.to_string(), "the headers");
        assert!(
            headers
                .first()
                .starts_with("first at 0x10 in the file (the headers, RVA 0x10): it has ")
        );
        let code = parts(image)
            .unwrap()
            .into_iter()
            .find(|part| part.name == "section `xdp`")
            .unwrap();
        let both = changed(&[0x80, code.start + 3]);
        assert_eq!(both.to_string(), "the headers, section `xdp`");
        let expected = format!(
            "first at {:#x} in the file (section `xdp`, RVA {:#x}): ",
            code.start + 3,
            code.address + 3
        );
        assert!(both.first().starts_with(&expected), "{both:?}");
        let longer = difference(&[image.as_slice(), &[1]].concat(), image).unwrap();
        assert_eq!(longer.to_string(), "the size of the file");
        assert!(
            longer.first().contains(": it has 01, and not its end; it has "),
            "{longer:?}"
        );
        let shorter = difference(&image[..image.len() - 1], image).unwrap();
        assert!(
            shorter.first().contains("it has its end, and not 00; it has "),
            "{shorter:?}"
        );
        // Whatever the rest looks like, nothing fails.
        for length in 1..0x400 {
            assert!(difference(&[], &image[..length]).is_some() && difference(image, &image[..length]).is_some());
        }
    }
}
