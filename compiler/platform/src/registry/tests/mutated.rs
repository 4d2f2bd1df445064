//! Random changes of exports: nothing panics, and whatever is taken becomes a provider file that loads.

use super::super::RegistryProviders;
use super::machine::{export, utf16};
use crate::{Platform, PlatformError};

/// xorshift64*, so that each run sees the same changes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }
}

#[test]
fn changed_exports_are_refused_or_give_a_file_that_loads() {
    // One type with all kinds of entries, so that changes hit them often.
    let mut machine = Platform::builtin();
    machine
        .program_types
        .retain(|t| ["sample", "xdp"].contains(&t.name.as_str()));
    machine.helpers.truncate(4);
    let text = export(&machine);
    let parts: Vec<&str> = text.split_inclusive('\n').collect();
    let mut random = Random(0x5EED);
    let (mut taken, mut refused, mut warned) = (0, 0, 0);
    for round in 0..1500 {
        let mut lines: Vec<String> = parts.iter().map(|p| (*p).to_owned()).collect();
        for _ in 0..=random.below(4) {
            let (at, other) = (random.below(lines.len()), random.below(lines.len()));
            match random.below(8) {
                0 => drop(lines.remove(at)),
                1 => lines.swap(at, other),
                2 => lines.insert(at, lines[other].clone()),
                3 => lines.truncate(at.max(1)),
                4 => {
                    let line = &mut lines[at];
                    let cut = random.below(line.len());
                    if line.is_char_boundary(cut) {
                        line.truncate(cut);
                    }
                }
                _ => {
                    let mut bytes = lines[at].clone().into_bytes();
                    let place = random.below(bytes.len());
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte = b"0123456789abcdef,\\\"=-[]{};x\n "[random.below(29)];
                    }
                    lines[at] = String::from_utf8(bytes).unwrap_or_default();
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        let text = lines.concat();
        let mut bytes = if round % 2 == 0 {
            utf16(&text)
        } else {
            text.into_bytes()
        };
        if round % 5 == 0 && !bytes.is_empty() {
            let place = random.below(bytes.len());
            bytes[place] = random.next() as u8;
        }
        let Ok(imported) = RegistryProviders::of_export("x.reg", &bytes) else {
            refused += 1;
            continue;
        };
        taken += 1;
        warned += usize::from(!imported.warnings().is_empty());
        let toml = imported.to_toml().unwrap();
        let mut files = Platform::builtin_files().to_vec();
        files.push(("x.reg", &toml));
        match Platform::from_toml(&files) {
            Ok(_) | Err(PlatformError::Conflicts(_)) => {}
            Err(other) => panic!("round {round}: {other}\n{toml}"),
        }
    }
    // The changes are of all kinds.
    assert!(
        taken > 200 && refused > 200 && warned > 100,
        "{taken} {refused} {warned}"
    );
}
