//! The project's headers for C that is not compiled for Windows' helpers by number: the same, with helpers of another kind.

use std::fs;
use std::path::Path;

use super::Error;

/// What is replaced in a header, and by what. Each stands in exactly one of them.
type Replacement<'a> = (&'a str, &'a str);

/// Native code calls helpers through variables that the loader finds in their section, where each holds the helper's number.
/// `lookup` is the text of `native/lookup.h`.
pub fn native(from: &Path, to: &Path, lookup: &str) -> Result<(), Error> {
    let declaration = (
        "static result(*const name) parameters __attribute__((unused)) = ",
        "__attribute__((section(\"bpf_helpers\"))) result(*name) parameters = ",
    );
    let end = "#endif /* BPF2SYS_H */";
    write(from, to, &[declaration, (end, &format!("{lookup}{end}"))])
}

/// The Linux kernel's numbers of helpers, and its context of XDP, whose addresses have 32 bits.
pub fn kernel(from: &Path, to: &Path) -> Result<(), Error> {
    write(
        from,
        to,
        &[
            ("    uint8_t *data;            /*", "    uint32_t data;            /*"),
            (
                "    uint8_t *data_end;        /* one past the last byte */\n    uint64_t",
                "    uint32_t data_end;        /* one past the last byte */\n    uint32_t",
            ),
            ("BPF2SYS_OFFSET(xdp_md_t, data_end, 8);", ""),
            ("BPF2SYS_OFFSET(xdp_md_t, data_meta, 16);", ""),
            ("BPF2SYS_OFFSET(xdp_md_t, ingress_ifindex, 24);", ""),
            ("BPF2SYS_SIZE(xdp_md_t, 32);", ""),
        ],
    )
}

fn write(from: &Path, to: &Path, replacements: &[Replacement<'_>]) -> Result<(), Error> {
    let mut replaced = vec![0; replacements.len()];
    let entries = fs::read_dir(from).map_err(|e| format!("{}: {e}", from.display()))?;
    fs::create_dir_all(to).map_err(|e| e.to_string())?;
    for entry in entries.flatten() {
        let mut text = fs::read_to_string(entry.path()).map_err(|e| e.to_string())?;
        for (count, (old, new)) in replaced.iter_mut().zip(replacements) {
            *count += text.matches(old).count();
            text = text.replace(old, new);
        }
        fs::write(to.join(entry.file_name()), text).map_err(|e| e.to_string())?;
    }
    match replaced.iter().zip(replacements).find(|(count, _)| **count != 1) {
        None => Ok(()),
        Some((count, (old, _))) => Err(format!("the headers have {old:?} {count} times, and once was expected")),
    }
}
