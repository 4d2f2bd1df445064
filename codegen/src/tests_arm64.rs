//! Modules lowered for ARM64.

use bpf2sys_bytecode::{
    AluOp, AtomicOp, Condition, Extension, Imm64, Instruction, Module, Operand, SwapKind, SwapWidth, Width, WordSize,
};
use bpf2sys_pe_emit::{Machine, NativeObject, UnwindInfo};
use bpf2sys_platform::Platform;

use crate::instruction_arm64::{Insn, Opcode, Role, decode};
use crate::testing::{EXIT, alu, call, helper, load, module, mov, one, program, r, store, subprogram, trusted};
use crate::{LowerError, Optimization, Optimizations, Options};

const ARM64: Options = Options {
    machine: Machine::Arm64,
    skeleton: crate::Skeleton::Driver,
    runtime: crate::RuntimeLevel::V1_6,
    optimizations: Optimizations::ALL,
    lse: false,
    sign_return_address: false,
    control_flow_guard: true,
    most_work: Options::MOST_WORK,
    keep_ir: false,
};

fn lower_with(module: Module, options: &Options) -> Result<NativeObject, LowerError> {
    crate::lower(&trusted(module), &Platform::builtin(), options).map(|lowered| lowered.object)
}

/// Every instruction form of RFC 9669 that Windows has a meaning for, as a straight line, on values that are not known.
fn every_form() -> Vec<Instruction> {
    let mut forms: Vec<Instruction> = [0, 2, 3, 4, 5, 6, 7, 8, 9, 1]
        .map(|register| load(Width::Dw, register, 1, 8 * i16::from(register)))
        .into();
    let sizes = [WordSize::W32, WordSize::W64];
    let operands = [
        Operand::Reg(r(2)),
        Operand::Imm(0),
        Operand::Imm(-1),
        Operand::Imm(7),
        Operand::Imm(0x1234_5678),
    ];
    for size in sizes {
        for op in AluOp::ALL {
            for src in operands {
                forms.push(Instruction::Alu {
                    size,
                    op,
                    dst: r(1),
                    src,
                });
            }
            forms.push(Instruction::Alu {
                size,
                op,
                dst: r(1),
                src: Operand::Reg(r(1)),
            });
        }
        for from in [Extension::S8, Extension::S16, Extension::S32] {
            forms.push(Instruction::Movsx {
                size,
                from,
                dst: r(1),
                src: r(2),
            });
        }
        forms.push(Instruction::Neg { size, dst: r(1) });
        for condition in Condition::ALL {
            for src in operands {
                forms.push(Instruction::JumpIf {
                    size,
                    condition,
                    dst: r(3),
                    src,
                    offset: 1,
                });
                forms.push(alu(AluOp::Add, 4, Operand::Imm(1)));
            }
        }
        for fetch in [false, true] {
            for op in [
                AtomicOp::Add { fetch },
                AtomicOp::Or { fetch },
                AtomicOp::And { fetch },
                AtomicOp::Xor { fetch },
                AtomicOp::Xchg,
                AtomicOp::Cmpxchg,
            ] {
                for base in [6, 10] {
                    forms.push(Instruction::Atomic {
                        size,
                        op,
                        base: r(base),
                        offset: -8,
                        src: r(5),
                    });
                }
            }
        }
    }
    for kind in [SwapKind::ToLe, SwapKind::ToBe, SwapKind::Swap] {
        for width in [SwapWidth::W16, SwapWidth::W32, SwapWidth::W64] {
            forms.push(Instruction::ByteSwap { kind, width, dst: r(1) });
        }
    }
    for width in [Width::B, Width::H, Width::W, Width::Dw] {
        for base in [6, 10] {
            for signed in [false, true] {
                forms.push(Instruction::Load {
                    width,
                    signed,
                    dst: r(7),
                    base: r(base),
                    offset: -16,
                });
                forms.push(alu(AluOp::Add, 4, Operand::Reg(r(7))));
            }
            forms.push(store(width, base, -16, Operand::Reg(r(5))));
            forms.push(store(width, base, -24, Operand::Imm(-5)));
        }
    }
    forms.push(Instruction::LoadImm64 {
        dst: r(8),
        value: Imm64::Constant(0x1234_5678_9ABC_DEF0),
    });
    for size in sizes {
        forms.push(Instruction::Jump { size, offset: 0 });
    }
    forms.extend([
        alu(AluOp::Add, 4, Operand::Reg(r(8))),
        alu(AluOp::Add, 1, Operand::Reg(r(4))),
    ]);
    forms.extend([store(Width::Dw, 6, 0, Operand::Reg(r(1))), mov(0, 0), EXIT]);
    forms
}

/// What can be chosen for ARM64.
fn choices() -> [Options; 4] {
    [(false, false), (false, true), (true, false), (true, true)].map(|(lse, sign_return_address)| Options {
        lse,
        sign_return_address,
        ..ARM64
    })
}

/// The instructions of every function of an object.
fn functions(object: &NativeObject) -> Vec<Vec<Insn>> {
    let code = |range: &bpf2sys_pe_emit::FunctionRange| {
        let data = &object.sections[range.section.0 as usize].data;
        decode(&data[range.offset as usize..][..range.size as usize]).unwrap()
    };
    object.functions.iter().map(code).collect()
}

/// The instructions of the one program that has this code.
fn native(code: &[Instruction], options: &Options) -> Vec<Insn> {
    functions(&lower_with(one(code), options).unwrap()).pop().unwrap()
}

fn text(code: &[Insn]) -> Vec<String> {
    code.iter().map(|insn| insn.op.to_string()).collect()
}

/// How many instructions have one of these names.
fn count(code: &[Insn], names: &[&str]) -> usize {
    let name = |line: &String| line.split(' ').next().map(str::to_owned).unwrap_or_default();
    text(code)
        .iter()
        .map(name)
        .filter(|name| names.contains(&name.as_str()))
        .count()
}

#[test]
fn every_instruction_form_becomes_an_image() {
    for options in choices() {
        let object = lower_with(one(&every_form()), &options).unwrap();
        bpf2sys_pe_emit::link(&object).unwrap();
    }
}

#[test]
fn no_instruction_form_needs_the_platform_register_or_a_vector_register() {
    for options in choices() {
        for function in functions(&lower_with(one(&every_form()), &options).unwrap()) {
            for line in text(&function) {
                let words = line.split(|c: char| !c.is_ascii_alphanumeric()).skip(1);
                let numbered = |word: &str| word.get(1..).is_some_and(|rest| rest.parse::<u8>().is_ok());
                let other =
                    |word: &str| ["x18", "w18"].contains(&word) || numbered(word) && !"xw0".contains(&word[..1]);
                let constant = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
                assert!(words.clone().all(|word| constant(word) || !other(word)), "{line}");
            }
        }
    }
}

#[test]
fn every_function_that_calls_has_a_frame_that_continues_the_chain() {
    for options in choices() {
        for function in functions(&lower_with(one(&every_form()), &options).unwrap()) {
            // `bti c` or `pacibsp`, in functions that are called by their address.
            let lines = text(&function);
            let calls = function.iter().any(|insn| insn.role() == Some(Role::Call));
            if !calls && lines.iter().all(|line| !line.contains("x29") && !line.contains("x30")) {
                continue;
            }
            let first = usize::from(!lines[0].starts_with("stp"));
            assert_eq!(lines[first..first + 2], ["stp x29, x30, [sp, #-0x10]!", "mov x29, sp"]);
        }
    }
}

#[test]
fn return_addresses_are_signed_with_key_b_by_hints() {
    let options = Options {
        sign_return_address: true,
        ..ARM64
    };
    let all = functions(&lower_with(one(&every_form()), &options).unwrap());
    // The one that checks nothing has no frame, and so nothing to sign.
    let is_signed =
        |function: &&Vec<Insn>| function.last().is_some_and(|last| last.op.opcode != Opcode::BR) && function.len() > 2;
    for function in all.iter().filter(is_signed) {
        assert_eq!(function[0].word, 0xD503_237F_u32.to_le_bytes());
        let returns: Vec<usize> = (0..function.len())
            .filter(|i| function[*i].op.opcode == Opcode::RET)
            .collect();
        assert!(!returns.is_empty());
        for position in returns {
            assert_eq!(function[position - 1].word, 0xD503_23FF_u32.to_le_bytes());
        }
    }
}

#[test]
fn divisions_have_no_traps() {
    let divide = |op| alu(op, 1, Operand::Reg(r(2)));
    let code = [AluOp::Div, AluOp::Mod, AluOp::Sdiv, AluOp::Smod].map(divide);
    let operands = [load(Width::Dw, 2, 1, 0), load(Width::Dw, 1, 1, 8)];
    let end = [store(Width::Dw, 2, 0, Operand::Reg(r(1))), EXIT];
    let code = native(&[operands.as_slice(), &code, &end].concat(), &ARM64);
    assert_eq!(count(&code, &["udiv", "sdiv"]), 4, "{:#?}", text(&code));
    assert_eq!(count(&code, &["udf", "brk", "cbz"]), 0, "{:#?}", text(&code));
}

fn atomics(size: WordSize) -> Vec<Instruction> {
    let atomic = |op| Instruction::Atomic {
        size,
        op,
        base: r(6),
        offset: 0,
        src: r(2),
    };
    let mut code = [
        AtomicOp::Add { fetch: true },
        AtomicOp::Xor { fetch: false },
        AtomicOp::Xchg,
        AtomicOp::Cmpxchg,
    ]
    .map(atomic)
    .to_vec();
    code.push(EXIT);
    code
}

#[test]
fn atomics_are_loops_and_full_barriers() {
    for size in [WordSize::W32, WordSize::W64] {
        let code = native(&atomics(size), &ARM64);
        let barriers: Vec<usize> = (0..code.len())
            .filter(|i| matches!(code[*i].op.opcode, Opcode::DMB(_)))
            .collect();
        let stores: Vec<usize> = (0..code.len())
            .filter(|i| code[*i].op.opcode == Opcode::STLXR)
            .collect();
        assert_eq!((stores.len(), count(&code, &["ldaxr"])), (4, 4));
        // After each store, before anything else that touches memory.
        assert_eq!(barriers.len(), 4, "{:#?}", text(&code));
        for (store, barrier) in stores.into_iter().zip(barriers) {
            assert!((store + 2..store + 5).contains(&barrier), "{:#?}", text(&code));
        }
    }
}

#[test]
fn atomics_are_one_instruction_with_lse_if_cranelift_knows_it() {
    let options = Options { lse: true, ..ARM64 };
    for size in [WordSize::W32, WordSize::W64] {
        let code = native(&atomics(size), &options);
        let names = ["ldaddal", "ldeoral", "casal"].map(|name| count(&code, &[name]));
        assert_eq!(names, [1, 1, 1], "{:#?}", text(&code));
        // It makes a loop of an exchange.
        let names = ["ldaxr", "stlxr", "dmb"].map(|name| count(&code, &[name]));
        assert_eq!(names, [1, 1, 1], "{:#?}", text(&code));
    }
}

#[test]
fn saved_registers_are_neighbours_whatever_atomics_take() {
    // A value lives across a call and a loop of exclusives, which takes x24 to x28: an odd number of saved registers below.
    for live in 1..=4 {
        let keep = (6..6 + live).map(|register| crate::testing::mov_reg(register, 1));
        let used = (6..6 + live).map(|register| alu(AluOp::Add, 0, Operand::Reg(r(register))));
        let code: Vec<Instruction> = keep
            .chain([
                helper(1),
                store(Width::Dw, 10, -8, Operand::Imm(0)),
                crate::testing::mov_reg(3, 10),
            ])
            .chain([alu(AluOp::Add, 3, Operand::Imm(-8))])
            .chain([Instruction::Atomic {
                size: WordSize::W64,
                op: AtomicOp::Add { fetch: true },
                base: r(3),
                offset: 0,
                src: r(6),
            }])
            .chain([helper(1)])
            .chain(used)
            .chain([EXIT])
            .collect();
        let object = lower_with(one(&code), &ARM64).unwrap();
        let UnwindInfo::Arm64 { codes, .. } = &object.functions.last().unwrap().unwind else {
            panic!("another machine")
        };
        bpf2sys_pe_emit::link(&object).unwrap();
        assert!(codes.len() > 8, "{live}: {codes:?}");
    }
}

#[test]
fn a_chain_of_calls_has_a_frame_of_more_than_a_page() {
    let mut functions = vec![program("program", "bind", &[call(1), EXIT])];
    for next in 2..8 {
        functions.push(subprogram(
            &format!("f{next}"),
            &[call(next), alu(AluOp::Add, 0, Operand::Imm(1)), EXIT],
        ));
    }
    functions.push(subprogram("last", &[load(Width::Dw, 0, 10, -8), EXIT]));
    for options in choices() {
        let object = lower_with(module(functions.clone()), &options).unwrap();
        bpf2sys_pe_emit::link(&object).unwrap();
        let lines: Vec<String> = object
            .functions
            .iter()
            .zip(self::functions(&object))
            .flat_map(|(_, code)| text(&code))
            .collect();
        // 8 * 512 bytes, in whole pages or with spilled registers on top.
        assert!(
            lines
                .iter()
                .any(|line| line == "sub sp, sp, #0x1, lsl #12" || line == "sub sp, sp, x16"),
            "{lines:#?}"
        );
    }
}

#[test]
fn subprograms_take_more_arguments_than_there_are_registers_for() {
    // The callee reads r0 and r6 to r9, which nobody passed it.
    let callee: Vec<Instruction> = [6, 7, 8, 9]
        .map(|register| alu(AluOp::Add, 0, Operand::Reg(r(register))))
        .into();
    let caller: Vec<Instruction> = [0, 6, 7, 8, 9].map(|register| mov(register, register.into())).into();
    let module = module(vec![
        program("program", "bind", &[caller.as_slice(), &[call(1), EXIT]].concat()),
        subprogram("sum", &[callee.as_slice(), &[EXIT]].concat()),
    ]);
    for options in choices() {
        let optimizations = Optimizations::ALL.set(Optimization::Conventions, false);
        let options = Options {
            optimizations,
            ..options
        };
        let object = lower_with(module.clone(), &options).unwrap();
        bpf2sys_pe_emit::link(&object).unwrap();
        let sum = text(functions(&object).last().unwrap());
        for offset in ["0x10", "0x18", "0x20", "0x28", "0x30"] {
            let reads_callers = |line: &String| line.starts_with("ldur ") && line.contains(&format!("[sp, #{offset}]"));
            assert!(sum.iter().any(reads_callers), "{sum:#?}");
        }
    }
}

#[test]
fn branches_reach_over_functions_of_more_than_their_range() {
    // `tbz` reaches 32 KiB, `cbz` and `b.cond` 1 MiB. Each store is one or two instructions. Functions as long as the second
    // are usually cut into pieces.
    let far = |count: usize| -> Vec<Instruction> {
        let jump = |condition, offset| Instruction::JumpIf {
            size: WordSize::W64,
            condition,
            dst: r(1),
            src: Operand::Imm(1),
            offset,
        };
        let body = (0..count).map(|i| store(Width::Dw, 6, (i % 4096) as i16 * 8, Operand::Imm(i as i32)));
        let ways = [jump(Condition::Set, 4), jump(Condition::Eq, 3), jump(Condition::Sgt, 2)];
        let divide = alu(AluOp::Div, 1, Operand::Reg(r(2)));
        let onward = Instruction::Jump {
            size: WordSize::W64,
            offset: 1,
        };
        let over = Instruction::Jump {
            size: WordSize::W32,
            offset: count as i32,
        };
        ways.into_iter()
            .chain([divide, onward, over])
            .chain(body)
            .chain([store(Width::Dw, 6, 0, Operand::Reg(r(1))), mov(0, 0), EXIT])
            .collect()
    };
    for (count, bytes) in [(9_000, 40_000), (110_000, 1 << 20)] {
        let whole = Options {
            most_work: u32::MAX,
            ..ARM64
        };
        let object = lower_with(one(&far(count)), &whole).unwrap();
        bpf2sys_pe_emit::link(&object).unwrap();
        let size = object.functions.last().unwrap().size;
        assert!(size > bytes, "{size}");
    }
}

#[test]
fn between_functions_is_what_stops() {
    let object = lower_with(one(&every_form()), &ARM64).unwrap();
    let mut ends = vec![0; object.sections.len()];
    let mut padding = 0;
    for range in &object.functions {
        let end = &mut ends[range.section.0 as usize];
        let data = &object.sections[range.section.0 as usize].data;
        for insn in decode(&data[*end..range.offset as usize]).unwrap() {
            assert_eq!(insn.op.opcode, Opcode::UDF);
            padding += 1;
        }
        *end = (range.offset + range.size) as usize;
    }
    assert!(padding > 0);
}

#[test]
fn function_that_reads_much_and_uses_it_late_still_fits_its_frame() {
    let mut code = vec![crate::testing::mov_reg(6, 1), mov(0, 0)];
    for offset in 0..400 {
        code.push(load(Width::Dw, 2, 6, offset * 8));
        code.push(alu(AluOp::Add, 0, Operand::Reg(r(2))));
        code.push(alu(AluOp::Mul, 0, Operand::Reg(r(0))));
        code.push(Instruction::JumpIf {
            size: WordSize::W64,
            condition: Condition::Eq,
            dst: r(6),
            src: Operand::Imm(7),
            offset: (399 - offset) * 4 + 1,
        });
    }
    code.extend([EXIT, mov(0, 1), EXIT]);
    bpf2sys_pe_emit::link(&lower_with(one(&code), &ARM64).unwrap()).unwrap();
}
