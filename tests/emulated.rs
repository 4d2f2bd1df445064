//! x64 images in the emulator and on the host's processor: whatever they do, what is reported of it is the same, byte by byte.

use std::fs;
use std::path::PathBuf;

use bpf2sys_simulator::image::Image;
use bpf2sys_simulator::{HexBytes, Input, ProcessorKind, RunRequest, Trace, describe, run};
use libtest_mimic::{Failed, Trial};

use crate::simulator_trials::shared::fixture::{packet, request};
use crate::simulator_trials::shared::patch::Patched;
use crate::support::{Need, output, root, succeed, test_with, tool};

pub fn trials() -> Vec<Trial> {
    let needs = &[Need::Emulator];
    vec![
        test_with("simulator::emulated::every_example_does_the_same", needs, examples),
        test_with("simulator::emulated::tests_of_examples_pass", needs, tests_of_examples),
        test_with("simulator::emulated::misbehaviour_is_told_alike", needs, misbehaviour),
        test_with("simulator::emulated::planted_errors_are_told_alike", needs, planted),
        test_with("simulator::emulated::what_the_emulator_lacks_is_said", needs, lacking),
        test_with(
            "simulator::emulated::a_switch_of_the_tool_asks_for_it",
            needs,
            asked_for,
        ),
    ]
}

/// What comes of a request on both processors, in words, if that is the same.
fn both(request: &RunRequest) -> Result<String, Failed> {
    let [native, emulated] = [ProcessorKind::Host, ProcessorKind::Emulated].map(|processor| {
        let outcome = run(&RunRequest {
            processor,
            ..request.clone()
        });
        match outcome {
            Ok(report) => serde_json::to_string(&report).unwrap_or_default(),
            Err(error) => format!("{error:?}"),
        }
    });
    if native == emulated {
        Ok(native)
    } else {
        Err(format!("natively:\n{native}\nemulated:\n{emulated}").into())
    }
}

/// Each program on each input that is beside it, on packets of every length up to some, and on nothing.
fn examples() -> Result<(), Failed> {
    let mut executed = 0;
    for entry in fs::read_dir(root().join("examples"))? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let object = folder.join(&name).with_extension("o");
        if !object.exists() {
            continue;
        }
        let built = tempfile::tempdir()?;
        let driver = built.path().join("driver.sys");
        succeed(tool().arg("build").arg(&object).arg("-o").arg(&driver))?;
        let image = fs::read(&driver)?;
        let mut data: Vec<Vec<u8>> = (0..80).step_by(7).map(|length| (0..length).collect()).collect();
        for file in fs::read_dir(&folder)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "bin") {
                data.push(fs::read(file)?);
            }
        }
        let programs = describe::describe(&image)?.module.map(|module| module.programs);
        for program in programs.unwrap_or_default() {
            for bytes in &data {
                let forms: [fn(&mut Input) -> &mut HexBytes; 2] = [|i| &mut i.packet, |i| &mut i.context];
                for form in forms {
                    let mut input = Input {
                        program: program.name.clone(),
                        repeat: 3,
                        ..Input::default()
                    };
                    form(&mut input).0.clone_from(bytes);
                    let told = both(&RunRequest {
                        image: image.clone(),
                        inputs: vec![input],
                        trace: Trace::Instructions,
                        ..RunRequest::default()
                    });
                    let told = told.map_err(|e| format!("{name}, {}: {}", program.name, e.message().unwrap_or("")))?;
                    executed += usize::from(told.contains("\"rva\""));
                }
            }
        }
    }
    // Most inputs suit one of the two forms only.
    if executed < 100 {
        return Err(format!("only {executed} runs executed anything").into());
    }
    Ok(())
}

fn tests_of_examples() -> Result<(), Failed> {
    let run = |switch: Option<&str>| {
        succeed(
            tool()
                .args(["test", "--fuzz", "50", "--json"])
                .args(switch)
                .arg(root().join("examples")),
        )
    };
    let without_times = |text: String| {
        let lines = text.lines().filter(|line| !line.contains("seconds"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let (native, emulated) = (without_times(run(None)?), without_times(run(Some("--emulate"))?));
    if native != emulated {
        return Err(format!("natively:\n{native}\nemulated:\n{emulated}").into());
    }
    Ok(())
}

/// Everything that `misbehave` of the trials' module does by its packet.
fn misbehaviour() -> Result<(), Failed> {
    for what in (0..=40).filter(|what| *what != 3) {
        both(&request(vec![packet("misbehave", &[what, 0])]))
            .map_err(|e| format!("{what}: {}", e.message().unwrap_or("")))?;
    }
    Ok(())
}

/// Code in the place of `misbehave`: it is given the address of a context whose first word is that of a packet of 64 bytes.
fn with_code(code: &[u8]) -> RunRequest {
    let mut patched = Patched::new();
    let at = patched.at(patched.u64(patched.program(7, 32)));
    patched.put(at, code);
    RunRequest {
        image: patched.finish(),
        ..request(vec![packet("misbehave", &[0; 64])])
    }
}

fn planted() -> Result<(), Failed> {
    let cases: [(&[u8], &str); 35] = [
        (b"\x31\xDB\xC3", "changed on return: rbx"),
        (b"\x31\xED\xC3", "changed on return: rbp"),
        (b"\x66\x0F\xEF\xF6\xC3", "xmm6"),
        (b"\x66\x45\x0F\xEF\xFF\xC3", "xmm15"),
        // Recursion without end.
        (b"\xE8\xFB\xFF\xFF\xFF", "the guard page before the kernel stack"),
        // sub rsp, 0x6100; push rax
        (
            b"\x48\x81\xEC\x00\x61\x00\x00\x50",
            "the guard page before the kernel stack",
        ),
        // Jumps into the packet, the context, and to nothing.
        (b"\x48\x8B\x01\xFF\xE0", "the packet+0x0"),
        (b"\xFF\xE1", "the context+0x0"),
        (b"\x31\xC0\xFF\xE0", "NULL"),
        // To addresses that cannot exist, by jmp, call and ret.
        (
            b"\x48\xB8\x00\x00\x00\x00\x00\x00\x80\x00\xFF\xE0",
            "general protection fault",
        ),
        (
            b"\x48\xB8\x00\x00\x00\x00\x00\x00\x00\x80\xFF\xD0",
            "general protection fault",
        ),
        (
            b"\x48\xB8\x00\x00\x00\x00\x00\x80\x00\x00\x50\xC3",
            "general protection fault",
        ),
        // Reads and writes there, one of them an alias of the packet but for its upper bits.
        (
            b"\x48\xB8\x00\x00\x00\x00\x00\x00\x80\x00\x88\x00",
            "general protection fault",
        ),
        (
            b"\x48\x8B\x01\x48\x0F\xBA\xE8\x3E\x8B\x00\xC3",
            "general protection fault",
        ),
        (
            b"\x48\x8B\x01\x48\x0F\xBA\xE8\x34\x8B\x00\xC3",
            "general protection fault",
        ),
        // An address of the kernel's half.
        (b"\x48\xC7\xC0\x00\xF0\xFF\xFF\x8B\x00", "access violation (read)"),
        // movaps to a stack that is not aligned, from there, and addps; movups may.
        (b"\x0F\x29\x04\x24\xC3", "general protection fault"),
        (b"\x66\x0F\x6F\x44\x24\x10\xC3", "general protection fault"),
        (b"\x0F\x58\x04\x24\xC3", "general protection fault"),
        (b"\x0F\x10\x04\x24\x31\xC0\xC3", "\"result\":0"),
        // What user mode may not do: hlt, cli, in, out, rep outsb, rdmsr, mov rax, cr0, int 0x29.
        (b"\xF4", "general protection fault"),
        (b"\xFA", "general protection fault"),
        (b"\xEC", "general protection fault"),
        (b"\xE6\x80", "general protection fault"),
        (b"\xF3\x6E", "general protection fault"),
        (b"\x0F\x32", "general protection fault"),
        (b"\x0F\x20\xC0", "general protection fault"),
        (b"\xCD\x29", "general protection fault"),
        // System calls: syscall, int 0x80.
        (b"\x0F\x05", "system call instruction"),
        (b"\xB8\x14\x00\x00\x00\xCD\x80", "system call instruction"),
        // Quotients: of a division by zero, and one that does not fit.
        (b"\x31\xD2\x31\xC9\xF7\xF1", "divide error"),
        (b"\x48\xC7\xC2\xFF\xFF\xFF\xFF\x6A\x02\x48\xF7\x34\x24", "divide error"),
        (b"\xCC", "breakpoint"),
        (b"\x0F\xFF\xC0", "illegal instruction"),
        // endbr64, rdsspq rax (nothing where there is no shadow stack), pause, lock xadd on the packet; a result.
        (
            b"\xF3\x0F\x1E\xFA\x31\xC0\xF3\x48\x0F\x1E\xC8\xF3\x90\x48\x8B\x11\x6A\x05\x58\xF0\x0F\xC1\x02\x8B\x02\xC3",
            "\"result\":5",
        ),
    ];
    for (code, expected) in cases {
        for trace in [Trace::None, Trace::Instructions] {
            let told = both(&RunRequest {
                trace,
                ..with_code(code)
            });
            let told = told.map_err(|e| format!("{code:02x?}: {}", e.message().unwrap_or("")))?;
            if !told.contains(expected) {
                return Err(format!("{code:02x?}: no {expected:?} in: {told}").into());
            }
        }
    }
    beyond_the_code()
}

/// Instructions whose first bytes are the last of the pages with code, which are zero there: `add [rax], al`.
fn beyond_the_code() -> Result<(), Failed> {
    // If an even number of bytes is before the end, the next instruction is beyond; otherwise the second byte of one is.
    for (before, section) in [(1, "xdp"), (2, ".reloc"), (3, "xdp"), (7, "xdp")] {
        let mut patched = Patched::new();
        let code = patched.section("xdp");
        let end = i64::from((code.rva.0 + code.virtual_size).next_multiple_of(0x1000));
        let program = patched.u64(patched.program(7, 32));
        let at = patched.at(program);
        let rva = (program - patched.image().image_base) as i64;
        // mov rax, [rcx]; jmp
        patched.put(at, &[0x48, 0x8B, 0x01, 0xE9]);
        patched.put(at + 4, &((end - before - rva - 8) as i32).to_le_bytes());
        let told = both(&RunRequest {
            image: patched.finish(),
            ..request(vec![packet("misbehave", &[0; 64])])
        })?;
        if !told.contains("access violation (execute)") || !told.contains(&format!("section: Some({section:?})")) {
            return Err(format!("{before}: {told}").into());
        }
    }
    Ok(())
}

/// Instructions of processors that the emulated one is not: said, and not taken for others.
fn lacking() -> Result<(), Failed> {
    // lzcnt, which would be bsr; vzeroupper; vmovups from a misaligned stack.
    for code in [
        &b"\xF3\x0F\xBD\xC1\xC3"[..],
        b"\xC5\xF8\x77\xC3",
        b"\xC5\xF8\x10\x04\x24\xC3",
    ] {
        let told = run(&RunRequest {
            processor: ProcessorKind::Emulated,
            ..with_code(code)
        });
        let told = format!("{told:?}");
        if !told.contains("instruction that the emulator does not have") {
            return Err(format!("{code:02x?}: {told}").into());
        }
    }
    Ok(())
}

fn asked_for() -> Result<(), Failed> {
    let image: PathBuf = root().join("simulator/testdata/module.image");
    assert_eq!(Image::parse(&fs::read(&image)?)?.machine, Image::X64);
    succeed(tool().args(["run", "--emulate"]).arg(&image))?;
    let out = output(
        tool()
            .args(["run", "--emulate"])
            .arg(&image)
            .env("BPF2SYS_UNICORN", "/nowhere"),
    )?;
    let text = String::from_utf8_lossy(&out.stderr);
    if out.status.success() || !text.contains("BPF2SYS_UNICORN names no library") {
        return Err(format!("{}: {text}", out.status).into());
    }
    // A test without what it needs is skipped, which is told.
    let text = succeed(
        tool()
            .args(["test", "--emulate"])
            .arg(root().join("examples/udp_filter"))
            .env("BPF2SYS_UNICORN", "/nowhere"),
    )?;
    if !text.contains("skipped") {
        return Err(text.into());
    }
    Ok(())
}
