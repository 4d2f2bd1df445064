//! ARM64 images unwind, and the check itself is tested: it passes what is right and catches what is wrong, in tables and in
//! code.

use std::time::Duration;

use bpf2sys_codegen::{Options, lower};
use bpf2sys_pe_emit::{Machine, NativeObject, UnwindInfo, link};
use bpf2sys_platform::Platform;
use libtest_mimic::{Failed, Trial};

use super::check_unwind;
use super::handmade::{self, object};
use super::modules;
use crate::examples::EXAMPLES;
use crate::support::{root, test};
use crate::unwind::Stats;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("unwind::arm64::arrives_at_the_caller_from_every_instruction", arrives),
        test(
            "unwind::arm64::arrives_from_frames_of_every_shape",
            arrives_in_every_frame,
        ),
        test(
            "unwind::arm64::arrives_from_every_piece_of_a_function",
            arrives_in_every_piece,
        ),
        test("unwind::arm64::the_check_catches_wrong_unwind_data", catches_wrong_data),
        test(
            "unwind::arm64::the_check_catches_code_that_no_unwind_data_describes",
            catches_wrong_code,
        ),
        test(
            "unwind::arm64::the_check_catches_wrong_bytes_in_the_codes",
            catches_wrong_bytes,
        ),
    ];
    trials.extend(EXAMPLES.map(|example| {
        let name = format!("unwind::arm64::arrives_from_every_instruction_of_{example}");
        test(&name, move || arrives_in_example(example))
    }));
    trials
}

/// What can be chosen for ARM64.
fn choices() -> impl Iterator<Item = Options> {
    let choices = [(false, false), (false, true), (true, false), (true, true)];
    choices.into_iter().map(|(lse, sign_return_address)| Options {
        machine: Machine::Arm64,
        lse,
        sign_return_address,
        ..Options::default()
    })
}

/// Every function but the one that checks nothing has a frame where return addresses are signed; elsewhere those that call.
fn has_frames(options: &Options, stats: &Stats) -> bool {
    if options.sign_return_address {
        stats.leaves == 1
    } else {
        stats.framed > 3 && stats.leaves > 1
    }
}

fn arrives_in_every_frame() -> Result<(), Failed> {
    let verified = modules::frames();
    for options in choices() {
        let lowered = lower(&verified, &Platform::builtin(), &options)?;
        let stats = check_unwind(link(&lowered.object)?.bytes()).map_err(|errors| errors.join("\n"))?;
        // The driver's functions, then ours.
        if stats.framed + stats.leaves != 12 + 13 || !has_frames(&options, &stats) {
            return Err(format!("only {stats:?}").into());
        }
    }
    Ok(())
}

fn arrives_in_every_piece() -> Result<(), Failed> {
    let verified = modules::frames();
    for options in choices() {
        let options = Options {
            most_work: modules::SMALL,
            ..options
        };
        let lowered = lower(&verified, &Platform::builtin(), &options)?;
        modules::expect_pieces(&lowered)?;
        let stats = check_unwind(link(&lowered.object)?.bytes()).map_err(|errors| errors.join("\n"))?;
        // The driver's functions, then ours.
        if stats.framed + stats.leaves != 12 + lowered.functions.len() || !has_frames(&options, &stats) {
            return Err(format!("{} functions, {stats:?}", lowered.functions.len()).into());
        }
    }
    Ok(())
}

/// The ARM64 driver of an example.
fn image(example: &str, options: &Options) -> Result<Vec<u8>, Failed> {
    let name = format!("{example}.o");
    let file = std::fs::read(root().join("examples").join(example).join(&name))?;
    let limit = bpf2sys::BuildOptions {
        time_limit: Some(Duration::from_mins(10)),
        ..bpf2sys::BuildOptions::default()
    };
    let verified = bpf2sys::verify(&file, &name, &limit).map_err(|error| error.to_string())?;
    let lowered = lower(&verified, &Platform::builtin(), options)?;
    Ok(link(&lowered.object)?.into_bytes())
}

fn arrives_in_example(example: &'static str) -> Result<(), Failed> {
    for options in choices() {
        let stats = check_unwind(&image(example, &options)?).map_err(|errors| errors.join("\n"))?;
        // The driver alone has more than this.
        if stats.framed + stats.leaves <= 10 || !has_frames(&options, &stats) || stats.instructions <= 200 {
            return Err(format!("only {stats:?}").into());
        }
    }
    Ok(())
}

fn check(object: &NativeObject) -> Result<Result<Stats, Vec<String>>, Failed> {
    Ok(check_unwind(link(object)?.bytes()))
}

fn arrives() -> Result<(), Failed> {
    let stats = check(&object())?.map_err(|errors| errors.join("\n"))?;
    let expected = Stats {
        framed: 3,
        leaves: 1,
        instructions: handmade::INSTRUCTIONS,
    };
    if stats == expected {
        Ok(())
    } else {
        Err(format!("{stats:?}, expected {expected:?}").into())
    }
}

/// Links a changed object, which must not pass; the error must name the place.
fn caught(what: &str, at: &str, change: impl FnOnce(&mut NativeObject)) -> Result<(), Failed> {
    let mut object = object();
    change(&mut object);
    match check(&object)? {
        Ok(_) => Err(format!("not caught: {what}").into()),
        Err(errors) if errors.iter().any(|error| error.contains(at)) => Ok(()),
        Err(errors) => Err(format!("{what}: expected an error at {at}, got {errors:#?}").into()),
    }
}

fn catches_wrong_data() -> Result<(), Failed> {
    type Change = fn(&mut Vec<u8>, &mut Vec<(u32, u16)>);
    // (what, function, an instruction where it matters, change)
    let changes: [(&str, usize, &str, Change); 13] = [
        ("a smaller frame", 0, "0x1018", |codes, _| codes[0] = 0x01),
        ("a smaller frame in the epilogue", 0, "0x1030", |codes, _| {
            codes[9] = 0x01;
        }),
        ("a pair of other registers", 0, "0x1018", |codes, _| codes[2] = 0x41),
        ("a pair that takes more", 0, "0x1014", |codes, _| codes[2] = 0x02),
        ("another register", 0, "0x1010", |codes, _| codes[4] = 0x61),
        ("no frame pointer", 0, "0x100c", |codes, epilogues| {
            codes.remove(5);
            for (_, first) in epilogues {
                *first -= 1;
            }
        }),
        (
            "a nop for the frame pointer, and another frame size",
            0,
            "0x102c",
            |codes, _| {
                codes[5] = 0xE3;
                codes[0] = 0x03;
            },
        ),
        ("no signature", 0, "0x1004", |codes, _| codes[7] = 0xE3),
        ("no signature in the epilogue", 0, "0x1040", |codes, _| codes[15] = 0xE3),
        ("an epilogue an instruction too late", 0, "0x1034", |_, epilogues| {
            epilogues[0].0 += 4;
        }),
        ("an epilogue an instruction too early", 0, "0x104c", |_, epilogues| {
            epilogues[1].0 -= 4;
        }),
        ("one epilogue less", 0, "0x1050", |_, epilogues| {
            epilogues.pop();
        }),
        ("the constant after its use in the epilogue", 1, "0x108c", |codes, _| {
            codes[6..9].copy_from_slice(&[0xC1, 0x01, 0xE3]);
        }),
    ];
    for (what, function, at, change) in changes {
        caught(what, at, |object| {
            if let UnwindInfo::Arm64 { codes, epilogs } = &mut object.functions[function].unwind {
                change(codes, epilogs);
            }
        })?;
    }
    caught("a framed function without entry", "0x10a4", |object| {
        object.functions[2].unwind = UnwindInfo::Leaf;
    })?;
    caught("an entry that ends before the function", "0x1060", |object| {
        object.functions[0].size -= 4;
        if let UnwindInfo::Arm64 { epilogs, .. } = &mut object.functions[0].unwind {
            epilogs.pop();
        }
    })
}

fn catches_wrong_code() -> Result<(), Failed> {
    // (what, an instruction where it matters, place, instruction)
    let changes: [(&str, &str, usize, u32); 9] = [
        ("a register that is not restored", "0x1044", 0x38, 0x9100_43FF), // add sp, sp, #16
        ("registers restored in another order", "0x1044", 0x34, 0xA8C1_4FF4), // ldp x20, x19, [sp], #16
        ("a stack that is not given back", "0x1044", 0x30, 0x9100_43FF),  // add sp, sp, #16
        ("a stack that is not aligned", "0x1018", 0x14, 0xD100_23FF),     // sub sp, sp, #8
        ("a register that is never saved", "0x1044", 0x20, 0xAA02_03F6),  // mov x22, x2
        ("the platform register", "0x1044", 0x20, 0xAA02_03F2),           // mov x18, x2
        ("a store over a saved register", "0x1044", 0x24, 0xF900_13E3),   // str x3, [sp, #32]
        ("a store below the stack", "0x1024", 0x24, 0xF81F_83E3),         // stur x3, [sp, #-8]
        ("an address that is not authenticated", "0x1044", 0x40, 0xD503_201F), // nop
    ];
    for (what, at, place, word) in changes {
        caught(what, at, |object| {
            object.sections[0].data[place..place + 4].copy_from_slice(&word.to_le_bytes());
        })?;
    }
    caught("a call into the middle of a function", "0x1074", |object| {
        object.sections[0].relocations[0].addend += 4;
    })
}

/// Every bit of the codes that says something different is noticed.
fn catches_wrong_bytes() -> Result<(), Failed> {
    let good = link(&object())?.into_bytes();
    let start = good
        .windows(handmade::SAVES_CODES.len())
        .position(|bytes| bytes == handmade::SAVES_CODES)
        .ok_or("the codes are not in the image")?;
    for (index, byte) in handmade::SAVES_CODES.iter().enumerate() {
        for bit in 0..8 {
            let value = byte ^ 1 << bit;
            let mut bytes = good.clone();
            bytes[start + index] = value;
            let same = match index {
                // The size of the first push after `mov fp, sp`: the next code takes the stack pointer from there.
                4 => value & 0xE0 == byte & 0xE0,
                // `nop` for `mov fp, sp`: the stack pointer is known without. `save_fplr`: the next code loads the two again.
                5 => matches!(value, 0xE3 | 0x61),
                _ => false,
            };
            if check_unwind(&bytes).is_ok() != same {
                return Err(format!("byte {index} of the codes changed to {value:#x}").into());
            }
        }
    }
    Ok(())
}
