//! Images are sound PE files in the eyes of readers that this project did not write.

use std::path::Path;
use std::process::Command;

use bpf2sys_pe_emit::link;
use libtest_mimic::{Failed, Trial};

use crate::examples::{EXAMPLES, runner};
use crate::support::{Need, output, test_with};
use crate::unwind::{arm64, handmade};

pub const LLVM_READOBJ: &str = "llvm-readobj-19";

pub fn trials() -> Vec<Trial> {
    let needs = [Need::Program(LLVM_READOBJ)];
    let mut trials = vec![test_with(
        "pe_image::llvm_readobj_reads_every_table",
        &needs,
        reads_every_table,
    )];
    trials.push(test_with(
        "pe_image::llvm_readobj_reads_arm64_unwind_data",
        &needs,
        reads_arm64_unwind_data,
    ));
    trials.extend(EXAMPLES.map(|example| {
        let name = format!("pe_image::llvm_readobj_reads_{example}");
        test_with(&name, &needs, move || reads_example(example))
    }));
    trials
}

fn reads_example(example: &'static str) -> Result<(), Failed> {
    let text = llvm_readobj(&runner::image(example)?)?;
    for table in [
        "Name: programs ",
        "Symbol: NmrRegisterClient",
        "RuntimeFunction {",
        "Type: DIR64",
    ] {
        if !text.contains(table) {
            return Err(format!("no `{table}`:\n{text}").into());
        }
    }
    Ok(())
}

/// Prints an image's headers, sections, imports, base relocations, load configuration, debug directory and unwind data with `llvm-readobj-19`; a warning is a
/// failure, as much as an error is.
pub fn llvm_readobj(image: &Path) -> Result<String, Failed> {
    let mut command = Command::new(LLVM_READOBJ);
    command
        .args([
            "--file-headers",
            "--sections",
            "--coff-imports",
            "--coff-basereloc",
            "--coff-load-config",
            "--coff-debug-directory",
            "--unwind",
        ])
        .arg(image);
    let out = output(&mut command)?;
    let complaints = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() || !complaints.is_empty() {
        return Err(format!("{command:?}: {}\n{complaints}", out.status).into());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn reads_every_table() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("handmade.sys");
    std::fs::write(&path, link(&handmade::object())?.bytes())?;
    let text = llvm_readobj(&path)?;
    let expected = [
        (1, "Machine: IMAGE_FILE_MACHINE_AMD64 (0x8664)"),
        (1, "Subsystem: IMAGE_SUBSYSTEM_NATIVE (0x1)"),
        (1, "Symbol: RtlQueryRegistryValues (0)"),
        (1, "Type: DIR64"),
        (3, "RuntimeFunction {"),
        (1, "0x12: SAVE_NONVOL reg=RDI, offset=0x28"),
        (1, "0x08: ALLOC_SMALL size=64"),
        (1, "0x01: PUSH_NONVOL reg=RBP"),
        (1, "0x0F: SAVE_NONVOL reg=R15, offset=0x290"),
        (1, "0x07: ALLOC_LARGE size=664"),
    ];
    has_lines(&text, &expected)
}

fn reads_arm64_unwind_data() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("handmade.sys");
    std::fs::write(&path, link(&arm64::handmade::object())?.bytes())?;
    // Prologues as the codes are stored, last instruction first; then epilogues.
    let expected = [
        (1, "Machine: IMAGE_FILE_MACHINE_ARM64 (0xAA64)"),
        (3, "RuntimeFunction {"),
        (4, "EpilogueScope {"),
        (1, "0x02                ; sub sp, #32"),
        (1, "0xcc01              ; stp x19, x20, [sp, #-16]!"),
        (1, "0xd441              ; str x21, [sp, #-16]!"),
        (3, "0xe1                ; mov fp, sp"),
        (3, "0x81                ; stp x29, x30, [sp, #-16]!"),
        (1, "0xfc                ; pacibsp"),
        (2, "0xfc                ; autibsp"),
        (2, "0xd441              ; ldr x21, [sp], #16"),
        (1, "0xc101              ; sub sp, #4112"),
        (1, "0xc101              ; add sp, #4112"),
        (1, "0xc100              ; sub sp, #4096"),
    ];
    has_lines(&llvm_readobj(&path)?, &expected)
}

/// Checks that each line is there once, or as often as expected, without its indentation.
fn has_lines(text: &str, expected: &[(usize, &str)]) -> Result<(), Failed> {
    for (count, line) in expected {
        let found = text.lines().filter(|found| found.trim() == *line).count();
        if found != *count {
            return Err(format!("`{line}` {found} times, expected {count}:\n{text}").into());
        }
    }
    Ok(())
}
