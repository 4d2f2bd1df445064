//! What is in a COFF object file.

use std::fmt::Write;
use std::path::Path;

use bpf2sys_simulator::object_file::ObjectFileDescription;

/// The description as text. Programs and maps are not shown: their tables have no addresses before they are linked.
pub(super) fn text(file: &Path, object: &ObjectFileDescription) -> String {
    let mut text = format!(
        "{}: COFF object file for {}, {} bytes; a linker makes a driver or DLL of it\nsections:\n",
        file.display(),
        object.machine,
        object.file_size
    );
    for section in &object.sections {
        let _ = writeln!(
            text,
            "  {:<8} {} bytes",
            section.name.escape_debug().to_string(),
            section.size
        );
    }
    for (title, names) in [("defines", &object.defined), ("needs", &object.undefined)] {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| name.escape_debug().to_string()).collect();
            let _ = writeln!(text, "{title}: {}", names.join(", "));
        }
    }
    text
}
