//! Where our tables differ from bpf2c's on purpose.

use libtest_mimic::Failed;

use super::MODULES;
use super::compare::Difference;

/// A fact that does not hold of our module.
struct Exception {
    /// The module.
    module: &'static str,
    /// JSON pointer of the fact.
    pointer: &'static str,
    /// Why.
    #[allow(dead_code)] // for the reader
    reason: &'static str,
}

const EXCEPTIONS: [Exception; 0] = [];

/// Fails with all differences (each with the form it was found in) but the exceptions, and with exceptions that no
/// longer are.
pub fn report(module: &str, differences: &[(String, Difference)]) -> Result<(), Failed> {
    let exceptions = || EXCEPTIONS.iter().filter(|e| e.module == module);
    let mut lines: Vec<String> = differences
        .iter()
        .filter(|(_, difference)| !exceptions().any(|e| e.pointer == difference.pointer))
        .map(|(form, difference)| format!("{form} {}: {}", difference.pointer, difference.text))
        .collect();
    let stale = exceptions().filter(|e| {
        !differences
            .iter()
            .any(|(_, difference)| e.pointer == difference.pointer)
    });
    lines.extend(stale.map(|e| format!("{} is as bpf2c has it: not an exception", e.pointer)));
    if lines.is_empty() {
        Ok(())
    } else {
        Err(lines.join("\n").into())
    }
}

pub fn all_known() -> Result<(), Failed> {
    match EXCEPTIONS.iter().find(|e| !MODULES.contains(&e.module)) {
        Some(exception) => Err(format!("no module is called {}", exception.module).into()),
        None => Ok(()),
    }
}
