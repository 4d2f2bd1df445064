//! The check itself is tested: it passes what is right and catches what is wrong, in tables and in code.

use std::collections::BTreeSet;

use bpf2sys_codegen::{Options, lower};
use bpf2sys_pe_emit::{NativeObject, UnwindCodeX64, UnwindInfo, UnwindOpX64, link};
use bpf2sys_platform::Platform;
use libtest_mimic::{Failed, Trial};

use super::arm64::modules;
use super::handmade::{self, object};
use super::{Stats, check_unwind, wine};
use crate::examples::{EXAMPLES, runner};
use crate::support::{test, test_with};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("unwind::arrives_at_the_caller_from_every_instruction", arrives),
        test("unwind::arrives_from_every_piece_of_a_function", arrives_in_every_piece),
        test("unwind::the_check_catches_wrong_unwind_data", catches_wrong_data),
        test(
            "unwind::the_check_catches_code_that_no_unwind_data_describes",
            catches_wrong_code,
        ),
        test(
            "unwind::the_check_catches_wrong_bytes_in_the_records",
            catches_wrong_bytes,
        ),
        test_with(
            "unwind::rtl_virtual_unwind_arrives_at_the_caller",
            &crate::wine::NEEDS,
            wine_agrees,
        ),
        test_with(
            "unwind::rtl_virtual_unwind_notices_wrong_unwind_data",
            &crate::wine::NEEDS,
            wine_notices,
        ),
        test_with(
            "unwind::rtl_virtual_unwind_arrives_in_all_examples",
            &crate::wine::NEEDS,
            wine_agrees_on_examples,
        ),
    ];
    trials.extend(EXAMPLES.map(|example| {
        let name = format!("unwind::arrives_from_every_instruction_of_{example}");
        test(&name, move || arrives_in_example(example))
    }));
    trials
}

fn arrives_in_example(example: &'static str) -> Result<(), Failed> {
    let stats = check_unwind(&std::fs::read(runner::image(example)?)?).map_err(|errors| errors.join("\n"))?;
    // The driver alone has more than this; most of its functions need no frame.
    if stats.framed > 2 && stats.framed + stats.leaves > 10 && stats.instructions > 200 {
        Ok(())
    } else {
        Err(format!("only {stats:?}").into())
    }
}

fn arrives_in_every_piece() -> Result<(), Failed> {
    let options = Options {
        most_work: modules::SMALL,
        ..Options::default()
    };
    let lowered = lower(&modules::frames(), &Platform::builtin(), &options)?;
    modules::expect_pieces(&lowered)?;
    let stats = check_unwind(link(&lowered.object)?.bytes()).map_err(|errors| errors.join("\n"))?;
    // Ours and the driver's.
    if stats.framed + stats.leaves < lowered.functions.len() + 5 {
        return Err(format!("{} functions, {stats:?}", lowered.functions.len()).into());
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
        leaves: 2,
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

fn without(codes: &mut Vec<UnwindCodeX64>, index: usize) {
    codes.remove(index);
}

fn catches_wrong_data() -> Result<(), Failed> {
    use UnwindOpX64::{Alloc, PushNonvol, SaveNonvol};
    type Change = fn(&mut u8, &mut Vec<UnwindCodeX64>);
    // (what, function, an instruction where it matters, change)
    let changes: [(&str, usize, &str, Change); 15] = [
        ("a save at another place", 0, "0x1012", |_, codes| {
            codes[0].op = SaveNonvol {
                register: 7,
                offset: 0x30,
            }
        }),
        ("a save of another register", 0, "0x1015", |_, codes| {
            codes[1].op = SaveNonvol {
                register: 6,
                offset: 0x20,
            }
        }),
        ("saves of exchanged registers", 0, "0x1018", |_, codes| {
            codes[0].op = SaveNonvol {
                register: 3,
                offset: 0x28,
            };
            codes[1].op = SaveNonvol {
                register: 7,
                offset: 0x20,
            };
        }),
        ("no save", 0, "0x1015", |_, codes| without(codes, 1)),
        ("a smaller frame", 0, "0x101e", |_, codes| codes[2].op = Alloc(0x38)),
        ("a larger frame", 0, "0x101e", |_, codes| codes[2].op = Alloc(0x48)),
        ("no frame", 0, "0x1008", |_, codes| without(codes, 2)),
        ("a push of another register", 0, "0x1004", |_, codes| {
            codes[3].op = PushNonvol(3);
        }),
        ("no push", 0, "0x1001", |_, codes| without(codes, 3)),
        (
            "a frame that is allocated an instruction too late",
            0,
            "0x1008",
            |_, codes| codes[2].offset = 0x0C,
        ),
        (
            "a frame that is allocated an instruction too early",
            0,
            "0x1004",
            |_, codes| codes[2].offset = 0x04,
        ),
        ("a push an instruction too late", 1, "0x1051", |_, codes| {
            codes[2].offset = 0x03;
            codes[3].offset = 0x02;
        }),
        ("pushes in another order", 1, "0x1058", |_, codes| {
            codes[1].op = PushNonvol(6);
            codes[2].op = PushNonvol(12);
        }),
        ("a prologue that reaches into the epilogue", 1, "0x107a", |size, _| {
            *size = 0x30;
        }),
        ("a large frame of another size", 2, "0x10af", |_, codes| {
            codes[1].op = Alloc(0x290);
        }),
    ];
    for (what, function, at, change) in changes {
        caught(what, at, |object| {
            if let UnwindInfo::X64 { prologue_size, codes } = &mut object.functions[function].unwind {
                change(prologue_size, codes);
            }
        })?;
    }
    caught("a framed function without entry", "0x1001", |object| {
        object.functions[0].unwind = UnwindInfo::Leaf;
    })?;
    caught("an entry that ends before the function", "0x1047", |object| {
        object.functions[0].size -= 1;
    })?;
    caught("an entry that starts after the function", "0x1051", |object| {
        object.functions[1].offset += 1;
        object.functions[1].size -= 1;
    })
}

fn catches_wrong_code() -> Result<(), Failed> {
    // (what, an instruction where it matters, place, bytes)
    let changes: [(&str, &str, usize, &[u8]); 8] = [
        // add rsp, 40h; mov rsp, rbp: as Cranelift writes it. Between the two nothing describes the stack.
        (
            "an epilogue of another form",
            "0x1043",
            0x3F,
            &[0x48, 0x83, 0xC4, 0x40, 0x48, 0x89, 0xEC],
        ),
        (
            "a register that is not restored",
            "0x1047",
            0x35,
            &[0x0F, 0x1F, 0x44, 0x00, 0x00],
        ),
        (
            "a register that is restored from another place",
            "0x1047",
            0x39,
            &[0x30],
        ),
        ("a store over a saved register", "0x1047", 0x26, &[0x20]),
        ("a stack that is not given back", "0x1047", 0x45, &[0x38]),
        // mov rbx, rcx becomes mov rsi, rcx, which nothing saves.
        ("a register that is never saved", "0x1047", 0x14, &[0xCE]),
        ("pops in another order", "0x107e", 0x7A, &[0x41, 0x5C, 0x5B, 0x5E]),
        // dec rdx becomes push rcx, pop rcx, nop in a function without frame.
        ("a leaf that is none", "0x10d8", 0xD7, &[0x51, 0x59, 0x90]),
    ];
    for (what, at, place, bytes) in changes {
        caught(what, at, |object| {
            object.sections[0].data[place..place + bytes.len()].copy_from_slice(bytes);
        })?;
    }
    caught("a save in the area that called functions own", "0x1047", |object| {
        for place in [0x0C, 0x39] {
            object.sections[0].data[place] = 0x18;
        }
        if let UnwindInfo::X64 { codes, .. } = &mut object.functions[0].unwind {
            codes[1].op = UnwindOpX64::SaveNonvol {
                register: 3,
                offset: 0x18,
            };
        }
    })?;
    caught("a call into the middle of a function", "0x1051", |object| {
        object.sections[0].relocations[1].addend += 1;
    })
}

/// Every bit of a record that says something different is noticed.
fn catches_wrong_bytes() -> Result<(), Failed> {
    let good = link(&object())?.into_bytes();
    // Version 1, prologue of 12h bytes, 6 slots, no frame register; rdi at 28h, rbx at 20h, 40h bytes, push of rbp.
    let record = [
        1, 0x12, 6, 0, 0x12, 0x74, 5, 0, 0x0D, 0x34, 4, 0, 0x08, 0x72, 0x01, 0x50,
    ];
    let start = good
        .windows(record.len())
        .position(|bytes| bytes == record)
        .ok_or("the record is not in the image")?;
    // What says the same in other words.
    let same = |index, value| match index {
        // The prologue ends after its last change of the stack and before the epilogue's first.
        1 => (0x0E..=0x46).contains(&value),
        // The saved register is not changed before the end of the prologue, so the save may be noted there at the latest,
        // and at its instruction at the earliest.
        4 => value > 0x0D,
        8 => value > 0x08,
        // Between the ends of two instructions.
        12 => (0x05..=0x08).contains(&value),
        _ => false,
    };
    for (index, byte) in record.iter().enumerate() {
        for bit in 0..8 {
            let value = byte ^ 1 << bit;
            let mut bytes = good.clone();
            bytes[start + index] = value;
            if check_unwind(&bytes).is_ok() != same(index, value) {
                return Err(format!(
                    "byte {index} of the record changed to {value:#x}: {:?}",
                    check_unwind(&bytes)
                )
                .into());
            }
        }
    }
    Ok(())
}

/// Where `LARGE` ends with a jump to another function. Windows takes that for the end of an epilogue, and Wine 8 for
/// an instruction of the body.
const TAIL_JUMP: u32 = 0x1000 + 0x90 + 0x31;

fn wine_agrees() -> Result<(), Failed> {
    let image = link(&object())?;
    let wrong = wine::rtl_virtual_unwind(image.bytes(), image.bytes())?;
    if wrong == BTreeSet::from([TAIL_JUMP]) {
        Ok(())
    } else {
        Err(format!("wrong from {wrong:x?}").into())
    }
}

fn wine_notices() -> Result<(), Failed> {
    let good = link(&object())?;
    let mut changed = object();
    if let UnwindInfo::X64 { codes, .. } = &mut changed.functions[0].unwind {
        codes[1].op = UnwindOpX64::SaveNonvol {
            register: 3,
            offset: 0x30,
        };
    }
    let mut wrong = wine::rtl_virtual_unwind(good.bytes(), link(&changed)?.bytes())?;
    wrong.remove(&TAIL_JUMP);
    // From behind the save of rbx to the start of the epilogue.
    let expected: BTreeSet<u32> = [
        0x0D, 0x12, 0x15, 0x18, 0x1E, 0x20, 0x22, 0x27, 0x2A, 0x2F, 0x32, 0x35, 0x3A, 0x3F,
    ]
    .map(|at| 0x1000 + at)
    .into();
    if wrong == expected {
        Ok(())
    } else {
        Err(format!("wrong from {wrong:x?}, expected {expected:x?}").into())
    }
}

fn wine_agrees_on_examples() -> Result<(), Failed> {
    for example in EXAMPLES {
        let image = std::fs::read(runner::image(example)?)?;
        let wrong = wine::rtl_virtual_unwind(&image, &image)?;
        if !wrong.is_empty() {
            return Err(format!("{example}: wrong from {wrong:x?}").into());
        }
    }
    Ok(())
}
