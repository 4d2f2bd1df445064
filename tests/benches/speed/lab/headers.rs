//! The project's headers for C that is compiled to native code: the same, but that helpers are called through pointers.

use std::fs;
use std::path::Path;

use super::Error;

/// How a header declares a helper for the instruction `call`.
const NUMBER: &str = "static result(*const name) parameters __attribute__((unused)) = ";
/// How it is declared here: a variable that the loader finds in its section, and replaces the number in it.
const POINTER: &str = "__attribute__((section(\"bpf_helpers\"))) result(*name) parameters = ";

/// Writes the headers of `from` to `to`.
pub fn write(from: &Path, to: &Path) -> Result<(), Error> {
    let mut replaced = 0;
    let entries = fs::read_dir(from).map_err(|e| format!("{}: {e}", from.display()))?;
    for entry in entries.flatten() {
        let text = fs::read_to_string(entry.path()).map_err(|e| e.to_string())?;
        replaced += text.matches(NUMBER).count();
        let file = to.join(entry.file_name());
        fs::write(file, text.replace(NUMBER, POINTER)).map_err(|e| e.to_string())?;
    }
    if replaced == 1 {
        Ok(())
    } else {
        Err(format!(
            "{replaced} declarations of helpers in the headers, where one was expected"
        ))
    }
}
